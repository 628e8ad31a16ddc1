"""The seconds of a run that was taken up again are the sum over its sessions."""

import dataclasses
import json
import time
from types import SimpleNamespace

import pytest

from runner.errors import RunError
from runner.execution import job
from runner.records.run_file import read_run, write_run
from runner.training import loop
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.checkpointing.resume import seconds_before
from runner.training.step import TrainStep

RECIPE = ("data.limit=64", "data.batch_size=16", "model=linear", "trainer.epochs=3", "trainer.save_every=1",
          "hardware=cpu", "hardware.threads=1")  # fmt: skip


@pytest.fixture
def stopped(train, tmp_path):
    """A run that failed in its second epoch, 1000 seconds on by the loop's clock; its folder."""
    late = [0.0]
    right = TrainStep.run

    def step(self, step, *, stop=False):
        late[0] = 1000.0 if step >= 2 else 0.0
        if step == 6:
            raise RunError("stopped")
        return right(self, step, stop=stop)

    (tmp_path / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + late[0]))
        patch.setattr(TrainStep, "run", step)
        with pytest.raises(RunError, match="stopped"):
            train(*RECIPE, run_dir=tmp_path / "run")
    return tmp_path / "run"


def test_what_the_last_save_of_a_killed_run_knew_counts(train, stopped):
    train(*RECIPE, run_dir=stopped)
    record = json.loads((stopped / "run.json").read_text())
    assert record["status"] == "completed"
    assert 1000 < record["seconds"] < 1500
    assert load_checkpoint(stopped / "checkpoints" / "last").state["standing"]["run_seconds"] > 1000


def test_the_peak_of_memory_is_that_of_all_sessions(train, stopped, monkeypatch):
    saved = load_checkpoint(stopped / "checkpoints" / "last").state["standing"]["peak_bytes"]
    assert saved > 0
    monkeypatch.setattr(loop, "peak_memory_bytes", lambda device: saved - 1)
    assert read_run(train(*RECIPE, run_dir=stopped)).memory.peak_bytes == saved


def test_without_the_sum_the_clock_would_start_again(train, stopped, monkeypatch):
    monkeypatch.setattr(job, "seconds_before", lambda *_: 0.0)
    train(*RECIPE, run_dir=stopped)
    assert json.loads((stopped / "run.json").read_text())["seconds"] < 500


def test_a_session_that_ended_in_order_says_itself_how_long_it_took(stopped):
    checkpoint = load_checkpoint(stopped / "checkpoints" / "last")
    record = read_run(stopped)
    assert 1000 < seconds_before(stopped, checkpoint) < 1500
    assert seconds_before(stopped, None) == 0.0

    def after(**changes):
        write_run(stopped, dataclasses.replace(record, status="interrupted", steps=4, seconds=77.0, **changes))
        return seconds_before(stopped, checkpoint)

    assert checkpoint.step == 4
    assert after() == 77.0
    write_run(stopped, dataclasses.replace(record, status="interrupted", steps=6, seconds=77.0))
    assert seconds_before(stopped, checkpoint) > 1000, "updates after the save are made again"
    after()
    other = dataclasses.replace(checkpoint, identity="other")
    assert seconds_before(stopped, other) > 1000
    del checkpoint.state["standing"]["run_seconds"]  # of a former version
    assert seconds_before(stopped, other) == 0.0
