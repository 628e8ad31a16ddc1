"""The live table of a sweep on terminals of several widths, compared with screens that were looked at."""

import re

import pytest
from rich.console import Console

from runner.sweeping.cells_table import CellRow, cells_table
from tests.screens import FakeTerminal, compare_with_golden

REQUEST = "optimizer.lr=0.0123456789 optimizer.momentum=0.912345 scheduler=cosine seed=3"
ROWS = [
    CellRow("9", "optimizer.lr=0.05 seed=0", state="failed", time="0:12"),
    CellRow("10", REQUEST, state="done", validation="94.12%", time="0:12"),
    CellRow("11", REQUEST.replace("cosine", "constant"), state="interrupted", validation="loss 0.9412", time="before"),
    CellRow("112", REQUEST, state="running", epoch="118/120", validation="100.00%", time="1:10:12 left"),
    CellRow("113", "optimizer.lr=0.05 seed=1", state="starting", time="0:03"),
]


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_number_state_and_epoch_are_kept_and_the_request_gives_way(columns, monkeypatch):
    terminal = FakeTerminal(monkeypatch, columns)
    title, best = "cells: 2 running, 1 done, 1 failed, 5 waiting; 0:33", f"best so far: 94.12% in cell 10 ({REQUEST})"
    Console(stderr=True, highlight=False).print(cells_table(ROWS, columns, title=title, caption=best))
    lines = terminal.screen()
    for row in ROWS:
        line = next(line for line in lines if re.match(rf" *{row.label} ", line))
        assert {row.state, *filter(None, [row.epoch])} <= set(line.split())
        assert len(line) <= columns
    compare_with_golden(f"sweep_{columns}", lines)
