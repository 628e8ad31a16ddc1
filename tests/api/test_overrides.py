from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from runner.api.overrides import call_of, lines_of
from runner.errors import RequestError


def plain(value):
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(name): plain(item) for name, item in value.items()}
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            False,
            0,
            -3,
            10**20,
            0.1,
            1e-7,
            1e30,
            "dp",
            "1,2",
            "0.1",
            "",
            " ",
            "null",
            "true",
            "a=b",
            "${x}",
        ),
        *(
            "it's",
            'say "x"',
            "back\\slash",
            "trailing\\",
            "ε",
            "a: b",
            "[a",
            "{a:1}",
            "range(1,3)",
            "~",
            "~/x",
            "C:\\x",
        ),
        *([], [1, 2.5], ["a,b", None], {"a": 1}, {"a b": [True]}, [[1], [2]]),
    ],
    ids=repr,
)
def test_a_value_is_that_value_and_no_sweep(value):
    (line,) = lines_of([], {"data.key": value})
    override = OverridesParser.create().parse_override(line)
    assert not override.is_sweep_override()
    assert override.key_or_group == "data.key"
    assert plain(override.value()) == value
    assert type(plain(override.value())) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.int64(3), "3"), (np.float64(0.1), "0.1"), (Path("/a b"), "/a b"), (Fraction(1, 4), "0.25"),
     ((1, 2), "[1,2]"), (float("inf"), "inf")],
)  # fmt: skip
def test_other_numbers_and_paths(value, text):
    assert lines_of(["a=1"], {"key": value}) == ["a=1", f"key={text}"]


@pytest.mark.parametrize("value", [Decimal(1), b"bytes", object, {1, 2}])
def test_what_cannot_be_typed_is_refused(value):
    with pytest.raises(RequestError, match=r"^key: got "):
        lines_of([], {"key": value})


def test_a_call_can_be_pasted():
    values = {"seeds": 2, "hydra.sweep.dir": "a b", "config_dir": Path("conf")}
    call = call_of("sweep", ["a=1,2"], values)
    assert call == "sweep('a=1,2', seeds=2, config_dir='conf', **{'hydra.sweep.dir': 'a b'})"
