"""The gradient of every example by itself: the quantity that differentially private training clips.

Three ways to the same numbers:

- ``ghost``: records each layer's input and output gradient in one ordinary pass, takes the norms from them and then one
  weighted sum (``ghost_gradients.py``).  The gradients of single examples hardly ever exist, so it is the way with the
  least memory and mostly the fastest.  Refuses models whose parameters are used outside of layers.
- ``functional``: ``torch.func`` runs the model on one example and vectorises that over the micro-batch.  Takes any
  model made of vectorisable operations.
- ``hooks``: Opacus records the same as ``ghost`` and multiplies it out, layer by layer.  Its optimizer, loader and
  engine are not used.  Refuses layers that it has no rule for.

``auto`` measures which is fastest for this model on this machine (``fastest_way.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from runner.config.errors import RequestError, nearest
from runner.privacy.example_gradients import ExampleGradients

GRAD_SAMPLES = ("ghost", "functional", "hooks")

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


def per_example_gradients(
    grad_sample: str, model: nn.Module, *, loss: Loss, forward: Forward, scale: float = 1.0, copies: int = 1
) -> PerExampleGradients:
    """The way named ``grad_sample`` for ``model``; ``scale`` multiplies the loss before the backward pass.

    ``copies`` is the number of images that make up an example.

    Raises:
        RequestError: an unknown way, or a model with layers for which per-example gradients do not exist.
    """
    if grad_sample not in GRAD_SAMPLES:
        raise RequestError(
            "privacy.grad_sample",
            grad_sample,
            "one of auto, " + ", ".join(GRAD_SAMPLES),
            nearest=nearest(grad_sample, ("auto", *GRAD_SAMPLES)),
        )
    refuse_shared_statistics(model)
    refuse_low_precision(model)
    # each builds on this module, and Opacus takes a second to import
    if grad_sample == "ghost":
        from runner.privacy.ghost_gradients import GhostGradients

        return GhostGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)
    if grad_sample == "functional":
        from runner.privacy.functional_gradients import FunctionalGradients

        return FunctionalGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)
    from runner.privacy.hook_gradients import HookGradients

    return HookGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def refuse_shared_statistics(model: nn.Module) -> None:
    """Refuses layers that mix examples, or that keep statistics of private examples without noise.

    Raises:
        RequestError: ``model`` has batch normalisation, or another normalisation with running statistics.
    """
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and (isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats)
    ]
    if layers:
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        got = f"statistics over the batch in {layers[0] or 'the model'}{more}"
        raise RequestError("model.norm", got, "group: under DP a gradient must depend on one example alone")


def refuse_low_precision(model: nn.Module) -> None:
    """Refuses trainable parameters below float32, in which clipping and noise would be rounded away.

    Raises:
        RequestError: the first such parameter, or parameters of two types.
    """
    types = {name: parameter.dtype for name, parameter in trainable(model).items()}
    for name, dtype in types.items():
        if dtype not in (torch.float32, torch.float64):
            raise RequestError("precision.amp_dtype", f"{name} in {dtype}", "weights in float32 or float64 under DP")
    if len(set(types.values())) > 1:
        raise RequestError("precision.amp_dtype", "weights of two types", "all in float32 or all in float64 under DP")
