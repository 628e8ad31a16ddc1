"""Saves wait until they are cheap, the best state waits in memory, and nothing else depends on it."""

import json

import pytest

from runner.training.checkpointing import save_schedule
from runner.training.checkpointing.checkpoint import load_checkpoint
from tests.faults.final_state import differences, final_state

RECIPE = ("data.limit=100", "data.batch_size=16", "model=mlp", "trainer.epochs=6", "hardware.threads=1",
          "optimizer=adam",
          "trainer.ema_decay=0.9", "optimizer.lr=0.01")  # fmt: skip
STEPS_PER_EPOCH = 7


def steps(run_dir):
    return sorted(int(path.name.removeprefix("step_")) for path in (run_dir / "checkpoints").glob("step_*"))


def meaning(run_dir):
    """All that a run leaves, apart from how often it saved."""
    found = final_state(run_dir)
    return {path: value for path, value in found.items() if not path.startswith("files")}


@pytest.fixture
def whole(train):
    return train(*RECIPE, "trainer.save_every=1")


def test_without_room_for_saves_the_last_and_the_best_are_there_all_the_same(train, whole, monkeypatch):
    monkeypatch.setattr(save_schedule, "SHARE", 0.0)
    run_dir = train(*RECIPE)
    assert not differences(meaning(run_dir), meaning(whole))
    best = load_checkpoint(run_dir / "checkpoints" / "best").step
    assert steps(run_dir) == sorted({best, 6 * STEPS_PER_EPOCH})
    assert best < 6 * STEPS_PER_EPOCH, "the best one had to wait"


def test_a_run_that_goes_on_from_a_best_state_that_had_waited_ends_with_the_same_bits(train, whole, monkeypatch):
    monkeypatch.setattr(save_schedule, "SHARE", 0.0)
    run_dir = train(*RECIPE)
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(record | {"status": "running"}))
    newest = max((run_dir / "checkpoints").glob("step_*"))
    (newest / "state.pt").write_bytes(b"")  # what is left is the state that was copied in memory
    train(*RECIPE, run_dir=run_dir)
    assert not differences(meaning(run_dir), meaning(whole))


def test_with_all_the_time_there_is_every_epoch_is_saved(train, whole, monkeypatch):
    monkeypatch.setattr(save_schedule, "SHARE", 1e9)
    assert steps(train(*RECIPE)) == steps(whole)
