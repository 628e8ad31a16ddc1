"""``python -m tests.privacy.broken_mechanism`` still finds the lines that it breaks, and the tests that must see it."""

import re

import pytest

from tests.privacy.broken_mechanism import BREAKS, ROOT


@pytest.mark.parametrize("each", BREAKS, ids=lambda each: each.what)
def test_a_break_fits_the_code(each):
    code = (ROOT / each.file).read_text()
    assert code.count(each.right) == 1
    file, _, test = each.test.partition("::")
    name = test.rpartition("::")[2].partition("[")[0]
    assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
