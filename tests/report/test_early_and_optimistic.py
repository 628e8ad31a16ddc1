"""A report says which runs stopped early and why, and where it compares by figures that chose an epoch."""

import dataclasses

import pytest

from runner.records.run_file import read_run, write_run
from runner.report.budgets import optimism, warnings
from runner.report.cells import read_sweep
from runner.report.findings import find
from runner.report.question import Metric
from tests.report.sweep_folders import write_sweep

WHY = "stopped early, after epoch 3 of 9: val_accuracy has not risen in the last 2 evaluations (trainer.patience=2)"


@pytest.fixture
def grouping(tmp_path):
    """Seven runs, the first with a best epoch; all but the last stopped early."""
    sweep = write_sweep(tmp_path, [(f"seed={seed}", 0.9) for seed in range(7)])
    cells = read_sweep(sweep).cells
    for number, cell in enumerate(cells):
        best = dataclasses.replace(cell.record.metrics, val_accuracy=0.9, best_epoch=2)
        changes = {"metrics": best if number == 0 else cell.record.metrics, "notes": (WHY,) if number < 6 else ()}
        write_run(cell.folder, dataclasses.replace(read_run(cell.folder), **changes))
    return find(read_sweep(sweep)).grouping


def test_which_runs_stopped_early_and_why(grouping):
    (told,) = warnings(grouping)
    assert told.startswith("Stopped early, so with fewer updates than planned: cell ")
    assert told.count("after epoch 3 of 9: val_accuracy has not risen in the last 2 evaluations") == 5
    assert told.endswith("; and 1 more.")


def test_a_comparison_by_figures_that_chose_is_called_optimistic(grouping):
    assert "best epoch, chosen on these same images, so it is optimistic" in optimism(grouping, Metric("val_accuracy"))
    assert optimism(grouping, Metric("test_accuracy")) is None


def test_runs_whose_last_weights_count_are_not_optimistic(tmp_path):
    grouping = find(read_sweep(write_sweep(tmp_path, [("seed=0", 0.9), ("seed=1", 0.9)]))).grouping
    assert optimism(grouping, Metric("val_accuracy")) is None
    assert warnings(grouping) == []
