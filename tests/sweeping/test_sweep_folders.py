"""Where the cells of a sweep lie, and what else does."""

import csv

import pytest

from runner.config.request.request import check_run, read_request
from runner.errors import RequestError
from runner.records.run_lock import lock_sweep
from runner.records.sweep_cells import find_cells
from tests.report.sweep_folders import write_cell

SHORT = ("model=linear", "trainer.steps=1", "data.limit=40", "tracker=none", "hardware=cpu", "hardware.threads=1",
         "hydra.sweep.dir=grid")  # fmt: skip


@pytest.mark.parametrize(("typed", "key"), [
    (["hydra.output_subdir=null"], "hydra.output_subdir"),
    (["hydra.output_subdir=asked"], "hydra.output_subdir"),
    (["seed=0,1", "hydra.output_subdir=null"], "hydra.output_subdir"),
    (["seed=0,1", "optimizer.lr=0.1,0.2", "hydra.sweep.subdir=${seed}"], "hydra.sweep.subdir"),
])  # fmt: skip
def test_what_would_pool_recipes_is_refused(composer, typed, key):
    with pytest.raises(RequestError) as refused:
        read_request(composer, typed, multirun=len(typed) > 1, check=check_run)
    assert refused.value.key == key


def test_nested_folders_a_narrower_grid_and_a_stranger(command, tmp_path):
    """A first grid of two in nested folders, then one of them alone, and a run of somebody's among them."""
    nested = "hydra.sweep.subdir=seeds/${seed}/run"
    code, out, err = command("--multirun", "seed=0,1", nested, *SHORT)
    assert code == 0, err
    grid = tmp_path / "grid"
    with (grid / "table.csv").open() as file:
        assert [row["cell"] for row in csv.DictReader(file)] == ["seeds/0/run", "seeds/1/run"]
    write_cell(grid / "mine", "optimizer.lr=0.777", 0.1)
    code, out, err = command("--multirun", "seed=1", nested, *SHORT)
    assert code == 0, err
    assert "finished before" in out
    assert "Not part of this sweep, though they lie in its folder: mine, seeds/0/run" in out
    with (grid / "table.csv").open() as file:
        assert [row["cell"] for row in csv.DictReader(file)] == ["seeds/1/run"]
    assert "0.777" not in (grid / "report.md").read_text()
    # negative control: without the list of its cells, what lies there is compared
    (grid / "cells.json").write_text("{")
    assert len(find_cells(grid).cells) == 3


def test_a_second_start_of_a_grid_is_refused_while_the_first_is_at_work(command, tmp_path):
    with lock_sweep(tmp_path / "grid", private=False):
        code, out, err = command("--multirun", "seed=0,1", *SHORT)
        assert (code, out) == (2, "")
        assert err.endswith("expected a folder that no other sweep is working in\n")
        assert [path.name for path in (tmp_path / "grid").iterdir()] == [".lock"], "it has left nothing"
    assert not (tmp_path / "grid").exists()
