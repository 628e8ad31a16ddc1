"""``task=classify``: a label is a class number, an output a logit of each class, the answer the largest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner.records.predictions import NO_ANSWER
from runner.tasks.losses import cross_entropy, cross_entropy_in_parts, log_probabilities
from runner.tasks.task import Judged

if TYPE_CHECKING:
    from runner.planning.plan import SemanticPlan


class Classify:
    """Cross-entropy in nats over K classes; evaluations report it without smoothing."""

    def __init__(self, semantic: SemanticPlan, device: torch.device) -> None:
        """See ``Task``."""
        smoothing = semantic.label_smoothing
        # a partial calls it directly: on a small model each Python call of a step counts
        self._sum = partial(torch.nn.functional.cross_entropy, reduction="sum", label_smoothing=smoothing)
        self._losses = cross_entropy(smoothing)
        self._losses_in_parts = cross_entropy_in_parts(smoothing)

    def total(self, model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Task.total``."""
        logits = model(images)
        return self._sum(logits, labels), logits

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """See ``Task.losses``."""
        return self._losses(outputs, labels)

    def losses_in_parts(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """See ``Task.losses_in_parts``."""
        return self._losses_in_parts(outputs, labels)

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """See ``Task.right``; of shares of classes, as mixed examples have, the largest is the right one."""
        return outputs.argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))

    def judge(self, outputs: Tensor, labels: Tensor) -> Judged:
        """See ``Task.judge``."""
        losses = torch.nn.functional.nll_loss(log_probabilities(outputs), labels, reduction="none")
        # among values that are not numbers, the first class would be the largest
        answers = torch.where(losses.isfinite(), outputs.argmax(1), NO_ANSWER)
        return Judged(losses, answers, answers == labels)
