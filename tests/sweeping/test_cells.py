"""A grid whose cells fail in every way: each alone, told with its cause, and the sweep taken up again in its folder."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal

import pytest
import torch

from runner.commands.train import main
from runner.errors import ExitCode
from runner.inference.finished_run import open_run
from runner.processes.fork_server import ForkServer
from runner.sweeping.cell import run_forked
from runner.sweeping.driver import SweepDriver
from runner.sweeping.launcher import ForkServerLauncher
from runner.training.checkpointing.checkpoint import load_checkpoint
from tests.conftest import last_of_each
from tests.sweeping.faulty_model import MENDED

TINY = ("data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16", "model=linear",
        "trainer.steps=6", "hardware=cpu", "tracker=none")  # fmt: skip
GRID = ("--config-dir", "mine", *TINY, "model=faulty", "hydra.sweep.dir=grid",
        "model.how=killed,well,raises,crashes")  # fmt: skip
SEARCH = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "optimizer.lr=interval(0.01,0.1)")
FAULTY = "_target_: tests.sweeping.faulty_model.build\nname: faulty\nhow: well\n"
CAUSES = {
    "0": "the process of the cell was ended by SIGKILL; see 0/output.log",
    "2": "ValueError: the model cannot be built",
    "3": "the process of the cell was ended by SIGSEGV; see 3/output.log",
}


class Folder:
    """A folder with sweeps in it, and what the command line said there."""

    def __init__(self, path):
        self.path = path

    def sweep(self, capsys, *arguments):
        return self.start(*arguments), *capsys.readouterr()

    def start(self, *arguments):
        with contextlib.chdir(self.path), pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECIPE_RUNNER_TARGETS", "tests")
            patch.setenv(MENDED, str(self.path / "mended"))
            return main(last_of_each(["--multirun", *arguments]))

    def rows(self, name="grid"):
        with (self.path / name / "table.csv").open(newline="") as file:
            return {row["cell"]: row for row in csv.DictReader(file)}

    def written(self, cell):
        """Every file of a cell and when it was written."""
        found = (self.path / "grid" / cell).rglob("*")
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweeps")
    (path / "mine" / "model").mkdir(parents=True)
    (path / "mine" / "model" / "faulty.yaml").write_text(FAULTY)
    return Folder(path)


@pytest.fixture(scope="module")
def failed(folder):
    """How the grid ended whose cells fail, and what it said."""
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), write_through=True)) as out,
        contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO(), write_through=True)) as err,
    ):
        patch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        code = folder.start(*GRID, "hydra.launcher.n_jobs=2")
    return code, *(said.buffer.getvalue().decode() for said in (out, err))


def test_each_cell_fails_alone_and_with_its_cause(folder, failed, train):
    code, out, err = failed
    assert code == ExitCode.FAILED
    rows = folder.rows()
    causes = {cell: row["error"] for cell, row in rows.items() if row["status"] == "failed"}
    cause, _, where = causes["2"].partition(" (")
    assert causes | {"2": cause} == CAUSES
    assert re.search(r"faulty_model\.py, line \d+, in build\); the traceback is in .*run\.log$", where)
    assert rows["1"]["status"] == "completed"
    assert "error: 3 of 4 cells failed: cell 0 (model.how=killed): the process of the cell was ended by SIGKILL" in err
    assert "Traceback" not in out + err
    assert "Segmentation fault" in (folder.path / "grid" / "3" / "output.log").read_text()
    assert "ValueError: the model" in (folder.path / "grid" / "2" / "run.log").read_text()
    # the cells share the cores and the GPUs, and each computes what it would alone
    run = json.loads((folder.path / "grid" / "1" / "run.json").read_text())
    assert run["environment"]["variables"]["CUDA_VISIBLE_DEVICES"] == "7", "cell 1 is the second of two at a time"
    assert run["plan"]["performance"]["threads"] == max(1, -(-len(os.sched_getaffinity(0)) // 2))
    alone = load_checkpoint(train(*TINY, "hardware.threads=1") / "checkpoints" / "last").weights
    torch.testing.assert_close(
        load_checkpoint(folder.path / "grid" / "1" / "checkpoints" / "last").weights, alone, rtol=1e-6, atol=1e-7
    )


@pytest.mark.usefixtures("failed")
def test_started_again_it_leaves_what_is_settled(folder, capsys):
    before = {cell: folder.written(cell) for cell in "0123"}
    code, out, err = folder.sweep(capsys, *GRID)
    assert code == ExitCode.FAILED
    assert "[1] model.how=well: finished before" in out
    assert "[2] model.how=raises: failed before: ValueError: the model cannot be built (" in out
    assert "3 of 4 cells failed" in err
    assert {cell: folder.written(cell) for cell in "0123"} == before


@pytest.mark.usefixtures("failed")
def test_another_recipe_is_refused_by_its_key(folder, capsys):
    before = folder.written("1")
    for more, key in (("optimizer.lr=0.3", "optimizer.lr"), ("trainer.steps=7", "trainer.steps")):
        code, out, err = folder.sweep(capsys, *GRID, more)
        assert (code, out) == (ExitCode.WRONG_REQUEST, "")
        assert err.startswith(f"error: {key}: got {more.partition('=')[2]}, expected ")
        assert "as in " in err
        assert err.count("\n") == 1
    code, _, err = folder.sweep(capsys, *GRID[:-1], "model.how=well,killed")
    assert code == ExitCode.WRONG_REQUEST
    assert err.startswith("error: model.how: got well, expected killed, as in ")
    assert folder.written("1") == before


@pytest.mark.usefixtures("failed")
def test_failed_cells_run_again_on_request_and_seeds_are_added(folder, capsys, tmp_path):
    shutil.copytree(folder.path, tmp_path / "copy", symlinks=True)
    folder = Folder(tmp_path / "copy")
    (folder.path / "mended").touch()
    before = folder.written("1")
    code, out, err = folder.sweep(capsys, *GRID, "retry_failed=true", "seeds=2")
    assert code == ExitCode.DONE, err
    rows = folder.rows()
    assert [row["status"] for row in rows.values()] == ["completed"] * 8
    assert folder.written("1") == before
    assert [rows[cell]["model.how"] for cell in "4567"] == [rows[cell]["model.how"] for cell in "0123"]
    assert {rows[cell]["seed"] for cell in "4567"} == {"1"}
    assert "0, 4" in out, "repeats share a line"


@pytest.mark.usefixtures("failed")
def test_data_that_have_changed_are_no_finished_cell(folder, capsys):
    """The configuration is the same, and the plan is not."""
    record = folder.path / "grid" / "1" / "run.json"
    text = record.read_text()
    found = json.loads(text)
    found["plan"]["semantic"]["data"]["fingerprint"] = "0" * 64
    found["plan"]["identity"] = "0" * 64
    record.write_text(json.dumps(found))
    code, _, err = folder.sweep(capsys, *GRID)
    record.write_text(text)
    assert code == ExitCode.WRONG_REQUEST
    assert "data: got " in err


def test_a_single_run_with_seeds_is_a_sweep(folder, capsys):
    with contextlib.chdir(folder.path):
        code = main([*TINY, "seed=3", "seeds=2", "hydra.sweep.dir=seeds"])
    assert code == ExitCode.DONE, capsys.readouterr().err
    assert {cell: row["seed"] for cell, row in folder.rows("seeds").items()} == {"0": "3", "1": "4"}


def test_a_file_in_the_place_of_a_cell_is_named(folder, capfd):
    (folder.path / "taken").mkdir()
    (folder.path / "taken" / "0").write_text("a file")
    code, out, err = folder.sweep(capfd, *TINY, "hydra.sweep.dir=taken", "seed=0,1")
    assert code == ExitCode.FAILED
    assert f"{folder.path / 'taken' / '0'}: cannot be written (File exists)" in err
    assert "Traceback" not in out + err
    assert folder.rows("taken")["1"]["status"] == "completed"


@pytest.mark.usefixtures("failed")
def test_what_is_interrupted_between_its_cells_says_how_it_goes_on(folder, capsys, monkeypatch):
    monkeypatch.setattr(ForkServerLauncher, "_finished", lambda self, cells: signal.raise_signal(signal.SIGTERM))
    code, _, err = folder.sweep(capsys, *GRID)
    assert (code, err.splitlines()[0]) == (ExitCode.INTERRUPTED, "interrupted")
    assert err.splitlines()[-1].startswith("goes on with: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2], ids=lambda number: number.name)
@pytest.mark.parametrize("when", ["load", "server"])
def test_a_signal_while_a_cell_is_started_reaches_it(folder, capsys, monkeypatch, when, number):
    """It is composed for a tenth of a second, and the server imports torch for seconds, before anybody can be told."""
    real, name = (SweepDriver.load, "load") if when == "load" else (ForkServer.start, "start")
    told = []

    def at(self, *arguments):
        if not told and (when == "load" or arguments[0] is run_forked):
            told.append(number)
            signal.raise_signal(number)
        return real(self, *arguments)

    monkeypatch.setattr(SweepDriver if when == "load" else ForkServer, name, at)
    where = f"started_{when}_{number.name}"
    code, _, err = folder.sweep(capsys, *TINY, "trainer.steps=1000000", f"hydra.sweep.dir={where}", "seed=0,1")
    assert (code, told) == (ExitCode.INTERRUPTED, [number])
    assert not (folder.path / where / "1").exists(), "no further cell is started"
    assert not (folder.path / where / "0" / "run.json").exists(), "the first one is told"
    assert "goes on with: " in err
    assert "error: " not in err, "a sweep without cells has no report"


@pytest.mark.parametrize(("launcher", "typed"), [("joblib", SEARCH), ("submitit_local", ())])
def test_other_launchers(runner, tmp_path, launcher, typed):
    # in a program of its own: joblib sets variables for good
    done = runner("--multirun", *TINY, "seed=5", *typed, f"hydra/launcher={launcher}", "hydra.sweep.dir=grid")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert [row["status"] for row in Folder(tmp_path).rows().values()] == ["completed"]
    assert f"table: {tmp_path / 'grid' / 'table.csv'}" in done.stdout
    assert (tmp_path / "grid" / "0" / "output.log").exists(), "it had a process of its own"
    assert open_run(tmp_path / "grid" / "0").config.seed == 5, "its configuration is kept"
