"""The gradient of every example by itself: the quantity that differentially private training clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from runner.privacy.example_gradients.parameter import ExampleGradients

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [b, classes], labels [b]) -> losses [b]."""
Forward = Callable[[], AbstractContextManager[Any]]
"""Opens the precision's context, in which the model's forward pass runs."""


class PerExample(NamedTuple):
    """What one micro-batch of b examples gives."""

    losses: Tensor
    """[b], unscaled, at least float32, detached; of several images the mean."""
    hits: Tensor
    """[b] bool: the largest logit, of several images the largest mean logit, is the label's."""
    gradients: Sequence[ExampleGradients]
    """One per trainable parameter, in the model's order, times the loss scale."""


class PerExampleGradients(Protocol):
    """Per-example losses and gradients of one micro-batch with at least one example.

    An example may be several images, ``copies`` of it side by side; its loss is the mean of theirs.
    """

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """``images`` [b * copies, C, H, W] and ``labels`` int64 [b] on the model's device."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
