"""No figure that is not finite is best, is compared, or passes in silence."""

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from runner.errors import RunError
from runner.execution.job import run_job
from runner.search.trial_pruning import TrialPruningHook
from runner.training import loop
from runner.training import state as loop_state
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.state import LoopState

RECIPE = ("data.limit=64", "data.batch_size=16", "trainer.save_every=1", "hardware=cpu", "hardware.threads=1")
NAN, INF = math.nan, math.inf


@pytest.fixture
def measured(monkeypatch):
    """measured((loss, accuracy), ...): the figures of the evaluations to come, the last for all others."""

    def measured(*figures):
        left = list(figures)
        monkeypatch.setattr(loop, "evaluate", lambda *_, **__: left.pop(0) if len(left) > 1 else left[0])

    return measured


def record(run):
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("first", [NAN, INF])
def test_a_first_evaluation_that_is_not_finite_does_not_stay_best(train, measured, monitor, first, capsys):
    # the accuracy of answers that are no numbers looks like one, and a better one than what follows
    measured((first, 0.9), (0.7, 0.5), (0.68, 0.6), (0.8, 0.4), (0.5, 0.55))
    run = train(*RECIPE, f"trainer.monitor={monitor}", "trainer.epochs=4", "trainer.test_checkpoint=best")
    assert load_checkpoint(run / "checkpoints" / "best").step == 12
    found = record(run)
    assert (found["metrics"]["val_loss"], found["metrics"]["val_accuracy"]) == (0.68, 0.6)
    assert "validation loss was not finite once, and nothing was chosen by these" in " ".join(found["notes"])
    assert "validation loss after step 4 is not finite" in capsys.readouterr().err


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_patience_counts_evaluations_that_are_not_finite_as_no_gain(train, measured, monitor):
    measured((0.9, 0.5), (NAN, 0.9), (INF, 0.95), (0.1, 0.99))
    run = train(*RECIPE, f"trainer.monitor={monitor}", "trainer.epochs=9", "trainer.patience=2")
    assert record(run)["epochs"] == 3
    assert load_checkpoint(run / "checkpoints" / "best").step == 4


def test_numbers_that_never_come_leave_no_best_and_no_right_answer(configure, tmp_path, monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.faults")
    config = configure("tracker=none", *RECIPE, "trainer.epochs=2")
    config.model.target = "tests.faults.hungry.build"
    config.model.options = {"room": 0, "call": 1, "error": "nan", "phase": "evaluation"}
    run_job(config, {}, tmp_path, None)
    found = record(tmp_path)
    assert not (tmp_path / "checkpoints" / "best").exists()
    assert found["status"] == "completed"
    assert (found["metrics"]["test_loss"], found["metrics"]["test_accuracy"]) == (None, 0.0)
    assert found["metrics"]["val_loss"] is None
    notes = " ".join(found["notes"])
    assert "not finite 2 times" in notes
    assert "none is best, so the last weights count" in notes
    assert "the test loss is not finite" in notes


def test_a_checkpoint_whose_best_is_no_number_is_gone_on_with_as_without_one(train, measured, monkeypatch):
    saved = asdict(LoopState(best=NAN, best_step=3, best_val_loss=NAN, best_val_accuracy=0.1, stale=2))
    restored = LoopState.restored(saved)
    assert (restored.best, restored.best_step, restored.best_val_accuracy, restored.stale) == (None, 0, None, 2)
    assert LoopState.restored({**saved, "best": 0.5}).best_step == 3


def test_without_the_guard_the_first_would_stay(train, measured, monkeypatch):
    monkeypatch.setattr(loop_state, "math", SimpleNamespace(isfinite=lambda value: True, inf=INF))
    measured((NAN, 0.9), (0.7, 0.5), (0.68, 0.6))
    run = train(*RECIPE, "trainer.monitor=val_loss", "trainer.epochs=3")
    assert load_checkpoint(run / "checkpoints" / "best").step == 4


def test_a_search_is_told_no_figure_of_an_evaluation_that_is_not_finite():
    judge = object.__new__(TrialPruningHook)
    judge._figure, judge._reported = "val_accuracy", set()
    for loss in (NAN, INF):
        with pytest.raises(RunError, match="val_loss is not finite after epoch 1"):
            judge.is_hopeless(1, val_loss=loss, val_accuracy=0.9)
