"""Evaluation batches in chunks that fit a CPU's caches, in training and in inference alike.

The activations of a large batch of a small convolutional net leave the caches between one layer and the next.  A net of
many weights has them put in order at each call, so that it likes whole batches better.  How many images are a piece
follows from the model alone: a finished run's figures can be had again to the bit.  The constants are measured:
docs/results/2026-11-23-inference.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from runner.models.memory_format import convolves

if TYPE_CHECKING:
    from runner.training.precision.precision import Precision

WEIGHTS = 2**20
"""Bytes of weights up to which there are pieces."""
ACTIVATION = 2**22
"""Bytes that the largest activation of a piece may take."""
LEAST = 32
"""Images in a piece, however large they are."""

_wanted: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()
"""Images in a piece of each model; None for whole batches."""


def chunked_logits(model: nn.Module, images: Tensor, precision: Precision) -> Tensor:
    """Logits [b, K] of ``images`` [b, C, H, W], in the parameters' type; ``model`` is in eval mode."""
    count = -(-len(images) // eval_chunk_size(model, images, precision))
    if count == 1:
        return forward_logits(model, images, precision)
    # of nearly equal lengths: a short one at the end would take kernels that round in another way
    return torch.cat([forward_logits(model, piece, precision) for piece in images.tensor_split(count)])


def forward_logits(model: nn.Module, images: Tensor, precision: Precision) -> Tensor:
    """Logits [b, K] of all ``images`` [b, C, H, W] at once, in the parameters' type; ``model`` is in eval mode."""
    with precision.forward():
        logits: Tensor = model(images)
    return logits.to(precision.parameter_dtype)


def eval_chunk_size(model: nn.Module, images: Tensor, precision: Precision) -> int:
    """How many of ``images`` [b, C, H, W] go through ``model`` together, at most."""
    if images.device.type != "cpu" or len(images) < 2 * LEAST:
        return len(images)
    if model not in _wanted:
        small = sum(parameter.nbytes for parameter in model.parameters()) <= WEIGHTS
        few = small and convolves(model)
        _wanted[model] = max(LEAST, ACTIVATION // _largest_activation(model, images[:1], precision)) if few else None
    wanted = _wanted[model]
    # two threads share a core's caches where cores have two; more threads have more of them
    return len(images) if wanted is None else wanted * max(1, torch.get_num_threads() // 2)


def _largest_activation(model: nn.Module, image: Tensor, precision: Precision) -> int:
    """Bytes of the largest tensor that a layer of ``model`` makes of one ``image`` [1, C, H, W]."""
    largest = image.nbytes

    def look(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.nbytes)

    watching = [layer.register_forward_hook(look) for layer in model.modules()]
    try:
        forward_logits(model, image, precision)
    finally:
        for watch in watching:
            watch.remove()
    return largest
