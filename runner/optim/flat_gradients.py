"""All gradients in one buffer, laid out as optimizers want them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FLAGS = 2
"""Elements behind the gradients in a buffer that is summed over processes: see ``World.sum_``."""


def gradient_views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Consecutive parts of ``flat`` in each parameter's shape and memory order.

    The order matters: fused optimizers read weight and gradient as plain memory, so that a contiguous gradient of a
    channels_last weight would be applied to the wrong numbers, without a word.
    """
    views = []
    start = 0
    for parameter in parameters:
        part = flat[start : start + parameter.numel()]
        start += parameter.numel()
        dense = torch.empty_like(parameter, device="meta").stride()
        views.append(part.as_strided(parameter.shape, dense, part.storage_offset()))
    return views
