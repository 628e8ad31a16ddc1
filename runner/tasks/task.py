"""A task: what a label is, what an example's loss is, and when an answer to it is right.  Nothing else knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from runner.config.untrusted.targets import locate

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.planning.plan import SemanticPlan


class Judged(NamedTuple):
    """What an evaluation takes from the outputs for b examples."""

    losses: Tensor
    """[b]: what is reported as the loss, the same whatever the training loss is weighted or smoothed by."""
    answers: Tensor
    """[b]: what is answered, ``NO_ANSWER`` where the loss is not finite."""
    right: Tensor
    """bool [b]: which answers are the labels."""


class Task(Protocol):
    """Maps a model and a batch to one loss per example, and outputs to answers.

    The losses of a batch are summed and never averaged here, because only the gradient rule knows how many examples
    an update has over all micro-batches and processes; none may depend on another example, so that each can be clipped
    by itself under DP.  A task may hold what it needs besides the model, such as a second network.
    """

    def __init__(self, semantic: SemanticPlan, device: torch.device) -> None:
        """Everything that it depends on stands in the semantic plan, and so in the identity of the run."""

    def total(self, model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the b losses, a scalar, and the model's outputs [b, K], both with their graph.

        Args:
            model: Gives outputs for images; the network, or compiled code in its place.
            images: [b, C, H, W].
            labels: What the task takes for labels, of b examples: for classes int64 [b], or the share of each [b, K].
        """
        ...

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The losses [b] whose sum ``total`` is, of outputs [b, K]."""
        ...

    def losses_in_parts(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``losses`` by operations that ``torch.func`` need not take apart, for gradients per example."""
        ...

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Which answers are right, bool [b], of outputs [b, K] during training."""
        ...

    def judge(self, outputs: Tensor, labels: Tensor) -> Judged:
        """Losses and answers of an evaluation."""
        ...


def build_task(semantic: SemanticPlan, device: torch.device) -> Task:
    """The task of a plan, on the device of its model.

    Raises:
        RequestError: its ``_target_`` is no task.
    """
    task: Task = locate("task", semantic.task.target)(semantic, device)
    return task
