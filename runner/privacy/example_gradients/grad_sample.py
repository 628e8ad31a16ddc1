"""``privacy.grad_sample``: three ways to the same per-example gradients.

- ``ghost``: records each layer's input and output gradient in one ordinary pass, takes the norms from them and then one
  weighted sum (``ghost.py``).  The gradients of single examples hardly ever exist, so it is the way with the
  least memory and mostly the fastest.  Refuses models whose parameters are used outside of layers.
- ``functional``: ``torch.func`` runs the model on one example and vectorises that over the micro-batch.  Takes any
  model made of vectorisable operations.
- ``hooks``: Opacus records the same as ``ghost`` and multiplies it out, layer by layer.  Its optimizer, loader and
  engine are not used.  Refuses layers that it has no rule for.

``auto`` measures which is fastest for this model on this machine (``autoselect.py``).
"""

from __future__ import annotations

import torch
from torch import nn

from runner.errors import RequestError, nearest
from runner.models.batch_statistics import batch_norms, no_exchange, without_exchange
from runner.privacy.example_gradients.functional import FunctionalGradients
from runner.privacy.example_gradients.ghost import GhostGradients
from runner.privacy.example_gradients.hooks import HookGradients
from runner.privacy.example_gradients.per_example import Forward, Loss, PerExampleGradients, trainable

GRAD_SAMPLES = ("ghost", "functional", "hooks")


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
    if grad_sample == "ghost":
        return GhostGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)
    if grad_sample == "functional":
        return FunctionalGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)
    # Opacus takes a second to import

    return HookGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)


def refuse_shared_statistics(model: nn.Module) -> None:
    """Refuses layers that mix examples, or that keep statistics of private examples without noise.

    Raises:
        RequestError: ``model`` has batch normalisation, or another normalisation with running statistics.
    """
    layers = batch_norms(model)
    if layers:
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        got = f"statistics over the batch in {layers[0] or 'the model'}{more}"
        raise RequestError("model.norm", got, "group: under DP a gradient must depend on one example alone")
    for name, layer, reason in without_exchange(model):
        raise no_exchange(name, layer, reason)


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
