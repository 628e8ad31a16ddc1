"""Counting many micro-batches in one go gives what counting each gives."""

import torch

from runner.training.distributed.world import SingleProcess
from runner.training.running_metrics import _SMALL, _WAITING, RunningMetrics, UnscoredLogits
from tests.tasks.plain_task import plain_task


def batches(count, size, classes):
    generator = torch.Generator().manual_seed(4)
    for _ in range(count):
        logits = torch.randn(size, classes, generator=generator)
        yield logits, torch.randint(classes, (size,), generator=generator), torch.rand((), generator=generator)


def test_marked_and_unmarked_answers_count_alike_however_many_wait():
    running_metrics = RunningMetrics(SingleProcess(torch.device("cpu")), torch.float32, plain_task().right)
    loss = torch.zeros(())
    right = examples = 0
    for number, (logits, labels, batch_loss) in enumerate(batches(_WAITING + 9, 5, 3)):
        hits = logits.argmax(1) == labels
        running_metrics.add(batch_loss, hits if number % 3 == 0 else UnscoredLogits(logits, labels))
        running_metrics.examples += len(labels)
        loss += batch_loss
        right += int(hits.sum())
        examples += len(labels)
    assert running_metrics.state() == {"loss": loss.item(), "correct": right, "examples": examples}
    totals = running_metrics.read()
    assert (totals.loss, totals.accuracy, totals.examples) == (loss.item() / examples, right / examples, examples)
    assert running_metrics.read().examples == 0


def test_large_answers_do_not_wait():
    running_metrics = RunningMetrics(SingleProcess(torch.device("cpu")), torch.float32, plain_task().right)
    logits, labels, loss = next(batches(1, 2, _SMALL))
    running_metrics.add(loss, UnscoredLogits(logits, labels))
    assert not running_metrics._waiting
    logits, labels, loss = next(batches(1, 2, 8))
    running_metrics.add(loss, UnscoredLogits(logits, labels))
    assert len(running_metrics._waiting) == 1


def test_sums_are_taken_up_where_they_were_left():
    first, second = (
        RunningMetrics(SingleProcess(torch.device("cpu")), torch.float32, plain_task().right) for _ in range(2)
    )
    for logits, labels, loss in batches(7, 4, 3):
        first.add(loss, UnscoredLogits(logits, labels))
        first.examples += 4
    second.load([first.state()])
    assert second.state() == first.state()
