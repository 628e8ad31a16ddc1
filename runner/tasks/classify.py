"""``task=classify``: a label is a class number, an output a logit of each class, the answer the largest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner.config.untrusted.targets import locate
from runner.errors import RunError
from runner.records.predictions import NO_ANSWER
from runner.tasks.losses import (
    Loss,
    cross_entropy,
    cross_entropy_in_parts,
    focal,
    log_probabilities,
    weighted_cross_entropy,
)
from runner.tasks.task import Judged

if TYPE_CHECKING:
    from runner.planning.plan import SemanticPlan


class Classify:
    """Cross-entropy in nats over K classes; evaluations report it without smoothing."""

    def __init__(self, semantic: SemanticPlan, device: torch.device) -> None:
        """See ``Task``."""
        smoothing, task = semantic.label_smoothing, semantic.task
        weights = None
        if task.class_weights is not None:
            weights = torch.tensor(task.class_weights, dtype=_widest(device), device=device)
        if task.loss == "cross_entropy" and weights is None:
            # a partial calls it directly: on a small model each Python call of a step counts
            self._sum: Loss = partial(torch.nn.functional.cross_entropy, reduction="sum", label_smoothing=smoothing)
            self._losses = cross_entropy(smoothing)
            self._losses_in_parts = cross_entropy_in_parts(smoothing)
            return
        if task.loss == "cross_entropy":
            assert weights is not None
            self._losses = weighted_cross_entropy(weights, smoothing)
        elif task.loss == "focal":
            self._losses = focal(task.focal_gamma, weights)
        else:
            self._losses = _checked(locate("task.loss", task.loss), task.loss)
        self._losses_in_parts = self._losses
        self._sum = lambda logits, labels: self._losses(logits, labels).sum()

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


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _checked(loss: Loss, name: str) -> Loss:
    """``loss``, whose results are looked at: a mean would hide the examples from clipping and from the denominator."""

    def losses(logits: Tensor, labels: Tensor) -> Tensor:
        found = loss(logits, labels)
        if not isinstance(found, Tensor) or found.shape != labels.shape[:1]:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise RunError(f"task.loss={name} gave {shape} for {len(labels)} examples; it must give one loss for each")
        return found

    return losses
