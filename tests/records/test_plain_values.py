import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
import torch

from runner.records.json_values import encode, encode_pretty, plain


class Color(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: float
    y: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.tensor(2.5), 2.5),
        (torch.tensor(math.inf), None),
        (torch.tensor([1, 2]), [1, 2]),
        (np.array([[1.0, math.nan]]), [[1.0, None]]),
        (Path("a", "b"), "a/b"),
        (Color.RED, "red"),
        (Point(math.inf, (1, 2)), {"x": None, "y": [1, 2]}),
        ({1: {"deep": (np.float32(1.0),)}}, {"1": {"deep": [1.0]}}),
        (True, True),
    ],
)
def test_values_become_plain(value, expected):
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)
    assert json.loads(encode(value)) == expected
    assert "NaN" not in encode_pretty(value)
    assert "Infinity" not in encode_pretty(value)


def test_what_has_no_plain_form_is_refused():
    with pytest.raises(TypeError, match="object has no form in JSON"):
        plain({"a": object()})


def test_floats_survive_to_the_bit():
    generator = np.random.default_rng(0)
    for value in generator.standard_normal(200) * 10.0 ** generator.integers(-300, 300, 200):
        assert json.loads(encode(value)) == value
