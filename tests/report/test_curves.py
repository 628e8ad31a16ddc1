"""Every recorded value of a learning curve is visible, also one without a neighbour."""

import math
from types import SimpleNamespace

import pytest

from runner.report.grid_plots import _draw_recipe
from runner.report.style import canvas


@pytest.mark.parametrize(
    ("values", "marked"), [([0.5], [0]), ([0.5, 0.6], []), ([0.5, None, 0.6, 0.7, None, 0.8], [0, 5]), ([None], [])]
)
def test_a_lone_point_has_a_mark(values, marked):
    records = [{"kind": "val", "epoch": float(at), "accuracy": value} for at, value in enumerate(values)]
    cells = [SimpleNamespace(records=records, failed=False, finished=True)] * 2
    with canvas(3.4) as (_, (axes,)):
        heights = _draw_recipe(axes, SimpleNamespace(cells=cells), "val", "accuracy", "black")
        lines = axes.get_lines()
    assert [line.get_markevery() for line in lines] == [marked] * 3
    assert {line.get_marker() for line in lines} == {"o"}
    assert not any(math.isnan(height) for height in heights)
