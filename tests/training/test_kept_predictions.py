"""What a run answered to each image is kept: exactly, of the right images, and only where it may be."""

import dataclasses
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from runner.data.images import ImageSet
from runner.errors import RunError
from runner.records.predictions import (
    PREDICTIONS_FILE,
    Predictions,
    images_digest,
    read_predictions,
    write_predictions,
)
from runner.records.run_file import read_run
from runner.training import loop
from runner.training.class_balance import ClassBalance
from runner.training.evaluate import evaluate
from runner.training.gradients.micro_batch_size import MicroBatchSizes
from runner.training.kept_predictions import KeptPredictions
from runner.training.precision.precision import Precision
from runner.training.run_data import open_run_data
from tests.tasks.plain_task import plain_task
from tests.training.taking_turns import TimedSteps

RECIPE = ("data.limit=200", "data.batch_size=16", "model=linear", "trainer.epochs=3", "hardware=cpu",
          "hardware.threads=1")  # fmt: skip
ANSWERS = Predictions(labels=np.array([0, 1, 2]), answers=np.array([0, 2, -1]), images="d")


def test_the_answers_have_the_accuracies_of_the_record(train, configure):
    run = train(*RECIPE, "trainer.monitor=val_loss")
    record, data = read_run(run), open_run_data(configure(*RECIPE))
    for split, accuracy in (("val", record.metrics.val_accuracy), ("test", record.metrics.test_accuracy)):
        found, images = read_predictions(run, record.plan["identity"], split), getattr(data, split)
        assert found.right.mean() == pytest.approx(accuracy, abs=1e-12)
        assert found.labels.tolist() == images.labels.tolist()
        assert found.answers.dtype == np.int8, "no larger than ten classes need"
        assert found.images == images_digest(data.origin, images.rows, images.labels)
    assert (run / PREDICTIONS_FILE).stat().st_size < 2 * (len(data.val) + len(data.test)) + 1000


def test_validation_answers_are_those_of_the_best_epoch(train, monkeypatch):
    """Negative control: one room for all evaluations ends with the answers of the last, and another accuracy."""
    evaluate = loop.evaluate

    def gap():
        count = iter(range(9))

        def worse_each_time(parts, *images, **how):
            with torch.no_grad():
                list(parts.model.parameters())[-1][3] = 10.0 ** next(count)
            return evaluate(parts, *images, **how)

        monkeypatch.setattr(loop, "evaluate", worse_each_time)
        run = train(*RECIPE, "trainer.monitor=val_loss")
        record = read_run(run)
        assert record.metrics.best_epoch == 1
        found = read_predictions(run, record.plan["identity"], "val")
        return abs(found.right.mean() - record.metrics.val_accuracy)

    assert gap() < 1e-12
    monkeypatch.setattr(KeptPredictions, "room", functools.cache(KeptPredictions.room))
    assert gap() > 1e-3


@pytest.mark.parametrize(("validation", "kept"), [("private", False), ("public", True)])
def test_a_private_run_keeps_none_on_private_validation_images(validation, kept):
    images = ImageSet(images=np.zeros((4, 1, 1, 1), np.uint8), labels=np.zeros(4, int), rows=np.arange(4), names=None)
    plan = SimpleNamespace(semantic=SimpleNamespace(privacy=SimpleNamespace(validation=validation)))
    data = SimpleNamespace(val=images, test=images, origin="o")
    some = KeptPredictions(plan, data, torch.device("cpu"))
    for split in ("val", "test"):
        some.keep(split, some.room(split))
    assert ("val" in some.predictions()) is kept
    assert (some.state() is not None) is kept
    assert "test" in some.predictions()


class Feed:
    """Logits as images: a model that does nothing answers with the largest."""

    def __init__(self, logits, labels):
        self._logits, self._labels = logits, labels

    def announce(self, rows):
        pass

    def batch(self, rows, draws):
        return self._logits[rows], self._labels[rows]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_several_processes_put_together_what_one_would(size):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(11, 5, generator=generator), torch.randint(5, (11,), generator=generator)
    logits[4] = math.nan
    feed = Feed(logits, labels)

    def work(world):
        classes = torch.zeros(2, 11, dtype=torch.int32)
        sizes = MicroBatchSizes(SimpleNamespace(batch_size=2, accumulation_steps=2, eval_batch_size=2))
        parts = SimpleNamespace(
            model=torch.nn.Identity(), task=plain_task(), sizes=sizes, precision=Precision(world.device), world=world
        )
        figures = evaluate(parts, feed, 11, classes=classes)
        return figures, classes

    for (_, accuracy), classes in TimedSteps(size).call(work):
        assert classes[0].tolist() == labels.tolist()
        expected = logits.argmax(1)
        expected[4] = -1  # an answer that is not finite is no right one
        assert classes[1].tolist() == expected.tolist()
        assert accuracy == pytest.approx((classes[0] == classes[1]).double().mean().item())


def test_the_file_is_of_one_run_and_whole(tmp_path):
    assert read_predictions(tmp_path, "a", "test") is None
    write_predictions(tmp_path, "a", {"test": ANSWERS})
    found = read_predictions(tmp_path, "a", "test")
    assert (found.labels.tolist(), found.answers.tolist(), found.images) == ([0, 1, 2], [0, 2, -1], "d")
    assert found.right.tolist() == [True, False, False]
    assert read_predictions(tmp_path, "a", "val") is None
    first = (tmp_path / PREDICTIONS_FILE).read_bytes()
    write_predictions(tmp_path, "a", {"test": ANSWERS})
    assert (tmp_path / PREDICTIONS_FILE).read_bytes() == first
    with pytest.raises(RunError, match="another run"):
        read_predictions(tmp_path, "b", "test")
    for damage in (first[:-1], first[:20], b"", b"{}", first.replace(b'"I8"', b'"U8"')):
        (tmp_path / PREDICTIONS_FILE).write_bytes(damage)
        with pytest.raises(RunError, match="cannot be used"):
            read_predictions(tmp_path, "a", "test")


@pytest.mark.parametrize(("classes", "dtype"), [(128, np.int8), (129, np.int16), (40_000, np.int32)])
def test_class_numbers_fit(tmp_path, classes, dtype):
    write_predictions(tmp_path, "a", {"test": dataclasses.replace(ANSWERS, labels=np.array([0, 1, classes - 1]))})
    found = read_predictions(tmp_path, "a", "test")
    assert found.labels.tolist() == [0, 1, classes - 1]
    assert found.labels.dtype == dtype


def test_the_balance_counts_what_was_answered():
    balance = ClassBalance.of(dataclasses.replace(ANSWERS, labels=np.array([0, 0, 2]), answers=np.array([1, 1, 1])))
    assert (balance.majority, balance.most_predicted) == (pytest.approx(2 / 3), 1.0)
