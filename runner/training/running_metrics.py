"""Running loss and accuracy since the last record, added up on the device until they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from runner.training.distributed.world import World

_WAITING = 64
"""Micro-batches whose answers may wait to be marked."""

_SMALL = 4096
"""Logits of a micro-batch that may wait, so that those that do stay below a MiB."""


class UnscoredLogits(NamedTuple):
    """Answers of which nobody has asked yet whether they are right.

    To compare a micro-batch's with its labels takes three operations, which on a small model are a tenth of the step.
    """

    logits: Tensor
    """[b, K], detached."""
    labels: Tensor
    """int64 [b]; or the share of each class, [b, K], of which the largest is the right one."""


Answers = Tensor | UnscoredLogits
"""Of a micro-batch: which are right, bool [b], or what tells it."""


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """What happened since the totals were last read, over all processes."""

    loss: float
    """Mean loss per example."""
    accuracy: float
    """Share of right answers, in [0, 1]."""
    examples: int


class RunningMetrics:
    """The sums of this process; only ``read`` and ``state`` wait for the device."""

    def __init__(self, world: World, dtype: torch.dtype, right: Callable[[Tensor, Tensor], Tensor]) -> None:
        """``dtype`` is that of the losses; ``right`` marks answers (``Task.right``)."""
        self._judge = right
        self._world = world
        self._loss = torch.zeros((), dtype=dtype, device=world.device)
        self._right = torch.zeros((), dtype=torch.int64, device=world.device)
        self._losses: list[Tensor] = []
        self._waiting: list[Answers] = []
        self.examples = 0
        """Over all processes."""

    def add(self, loss: Tensor, answers: Answers) -> None:
        """Take in a micro-batch: the sum of its losses, a scalar, and its answers."""
        self._losses.append(loss)
        self._waiting.append(answers)
        large = isinstance(answers, UnscoredLogits) and answers.logits.numel() > _SMALL
        if large or len(self._waiting) == _WAITING:
            self._mark()

    def read(self) -> StepTotals:
        """Sum over the processes, and begin anew."""
        self._mark()
        sums = torch.stack([self._loss, self._right.to(self._loss.dtype)])
        self._world.sum_(sums)
        loss, right = sums.tolist()
        examples, self.examples = self.examples, 0
        self._loss.zero_()
        self._right.zero_()
        return StepTotals(loss=loss / max(examples, 1), accuracy=right / max(examples, 1), examples=examples)

    def state(self) -> dict[str, float]:
        """This process's sums as plain numbers, for a checkpoint between two records."""
        self._mark()
        return {"loss": self._loss.item(), "correct": self._right.item(), "examples": self.examples}

    def load(self, saved: list[dict[str, float]]) -> None:
        """Take up the sums of every process; when their number has changed, the first one takes them all."""
        world = self._world
        if len(saved) == world.size:
            mine = saved[world.rank : world.rank + 1]
        else:
            mine = saved if world.is_main else []
        self._loss.fill_(sum(state["loss"] for state in mine))
        self._right.fill_(sum(state["correct"] for state in mine))
        self.examples = int(saved[0]["examples"])

    def _mark(self) -> None:
        """Take in what waits: add the losses in their order, and count the right answers all in one go."""
        for loss in self._losses:
            self._loss.add_(loss)
        self._losses.clear()
        unmarked = [answers for answers in self._waiting if isinstance(answers, UnscoredLogits)]
        marked = [answers for answers in self._waiting if not isinstance(answers, UnscoredLogits)]
        if unmarked:
            logits, labels = zip(*unmarked, strict=True)
            marked.append(self._judge(torch.cat(logits), torch.cat(labels)))
        if marked:
            self._right.add_(torch.cat(marked).sum())
        self._waiting.clear()
