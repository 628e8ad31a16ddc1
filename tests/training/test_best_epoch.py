"""Which evaluation is best, that a run says which, and why it stopped early."""

import json

import pytest

from runner.records.console import result_rows
from runner.records.run_file import read_run
from runner.training import loop
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.state import LoopState

RECIPE = ("data.limit=64", "data.batch_size=16", "model=linear", "trainer.save_every=1", "hardware=cpu",
          "hardware.threads=1")  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """measured((loss, accuracy), ...): the figures of the evaluations to come, the test's last."""

    def measured(*figures):
        left = list(figures)
        monkeypatch.setattr(loop, "evaluate", lambda *_, **__: left.pop(0))

    return measured


def best_step(run):
    return load_checkpoint(run / "checkpoints" / "best").step


def test_among_equal_accuracies_the_lower_loss_is_best_and_then_the_first(train, measured):
    measured((0.7, 0.5), (0.9, 0.8), (0.6, 0.8), (0.6, 0.8), (0.8, 0.8), (0.1, 0.7), (0.5, 0.75))
    run = train(*RECIPE, "trainer.epochs=6")
    assert best_step(run) == 12
    metrics = read_run(run).metrics
    assert (metrics.best_epoch, metrics.val_loss, metrics.val_accuracy, metrics.test_loss) == (3, 0.6, 0.8, 0.5)
    assert dict(result_rows(read_run(run)))["best epoch"] == "3, chosen by validation: val figures are optimistic"


def test_equal_losses_leave_the_first_one_best(train, measured):
    measured((0.6, 0.5), (0.6, 0.8), (0.7, 0.9), (0.5, 0.75))
    assert best_step(train(*RECIPE, "trainer.epochs=3", "trainer.monitor=val_loss")) == 4


def test_an_equal_accuracy_does_not_win_patience(train, measured, capsys):
    measured((0.7, 0.8), (0.6, 0.8), (0.5, 0.8), (0.5, 0.75))
    run = train(*RECIPE, "trainer.epochs=9", "trainer.patience=2")
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["epochs"], record["metrics"]["best_epoch"]) == ("completed", 3, 3)
    why = (
        "stopped early, after epoch 3 of 9: val_accuracy has not risen in the last 2 evaluations"
        " (trainer.patience=2); best after epoch 3"
    )
    assert record["notes"][-1] == why
    assert why in capsys.readouterr().err


def test_a_run_that_does_not_stop_early_says_nothing_of_it(train, measured):
    measured((0.7, 0.8), (0.6, 0.7), (0.5, 0.7), (0.5, 0.75))
    record = read_run(train(*RECIPE, "trainer.epochs=3", "trainer.patience=2"))
    assert not any("stopped early" in note for note in record.notes)
    assert (record.epochs, record.metrics.best_epoch) == (3, 1)


def test_where_the_last_weights_count_no_epoch_is_best(train, measured):
    measured((0.7, 0.8), (0.6, 0.7), (0.5, 0.75))
    record = read_run(train(*RECIPE, "trainer.epochs=2", "trainer.test_checkpoint=last"))
    assert record.metrics.best_epoch is None
    assert "best epoch" not in dict(result_rows(record))


def test_without_the_rule_the_first_of_equal_accuracies_would_win(train, measured, monkeypatch):
    """A negative control."""
    monkeypatch.setattr(LoopState, "_has_lower_loss", lambda self: False)
    measured((0.9, 0.8), (0.6, 0.8), (0.5, 0.75))
    assert best_step(train(*RECIPE, "trainer.epochs=2")) == 4
