"""Every ε that is printed is rounded by ``runner/privacy/accounting/privacy_text.py``."""

import ast
import math
import re

import pytest

from runner.errors import RequestError
from runner.privacy.accounting import accountants
from runner.privacy.accounting.calibration import LEAST_NOISE, solve_noise_multiplier
from runner.privacy.accounting.privacy_text import epsilon_text
from tests.conftest import ROOT

_NAMED = re.compile(r"epsilon|ε|\beps\b")
_JUST_BEFORE = re.compile(r"(?:epsilon|ε)(?: is| of| at least| at most|=|:| =|<=|>=)*\s*$")
_WRITERS = ("epsilon_text", "lower_bound_text", "odds_text", "certainty_text", "plainly", "as_typed")


def formatted_otherwise(source):
    """Values in f-strings that are, or are called, an ε and were formatted by something else than ``privacy_text``."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before = str(part.value)
                continue
            assert isinstance(part, ast.FormattedValue)
            value, form = part.value, part.format_spec
            by_writer = isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in _WRITERS
            if not by_writer:
                is_number = isinstance(value, ast.Attribute | ast.Name) and _NAMED.search(ast.unparse(value))
                if is_number or (form is not None and _JUST_BEFORE.search(before)):
                    yield ast.unparse(part)
            before = ""


def formatted_in_refusals(source):
    """The same of numbers in refusals of an ε, where its name stands apart from the text."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "RequestError"):
            continue
        if not (isinstance(node.args[0], ast.Constant) and str(node.args[0].value).endswith("epsilon")):
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.FormattedValue) and part.format_spec and "noise" not in ast.unparse(part.value):
                yield ast.unparse(part)


def test_no_epsilon_is_formatted_in_another_way():
    found = {}
    for path in sorted((ROOT / "runner").rglob("*.py")):
        source = path.read_text()
        if lines := [*formatted_otherwise(source), *formatted_in_refusals(source)]:
            found[str(path.relative_to(ROOT))] = lines
    assert not found


@pytest.mark.parametrize(
    "line", ['f"{spent.epsilon:.3g}"', 'f"epsilon={epsilon}"', 'f"ε={bound:.2f}"', 'f"ε at most {found:.4g}"']
)
def test_another_way_would_be_seen(line):
    assert list(formatted_otherwise(line))
    refusal = f"RequestError('privacy.epsilon', 3, {line.replace('epsilon', 'one').replace('ε', 'one')})"
    assert list(formatted_in_refusals(refusal)) or ":" not in line


def test_usual_figures_are_printed_as_they_are():
    assert [epsilon_text(each) for each in (1.1, 0.001, 3.0, math.inf)] == ["1.10", "0.001", "3.00", "inf"]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_the_largest_epsilon_that_can_be_asked_for_can_be(rate):
    asked = {"delta": 1e-5, "sample_rate": rate, "steps": 1}
    with pytest.raises(RequestError) as refused:
        solve_noise_multiplier("rdp", epsilon=9e3, **asked)
    most = float(re.search(r"at most (\S+),", str(refused.value))[1])
    assert most <= accountants.epsilon("rdp", noise_multiplier=LEAST_NOISE, **asked)
    assert solve_noise_multiplier("rdp", epsilon=most, **asked) >= LEAST_NOISE
