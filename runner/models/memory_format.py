"""The memory format (``channels_last`` or contiguous) that suits a model's layers.

Convolutions like the channels of a pixel side by side (channels last).  A model whose weights are matrices flattens its
images row by row and channel by channel, so it would copy each batch into that order first.
"""

from __future__ import annotations

import torch
from torch import nn


def convolves(model: nn.Module) -> bool:
    """Whether ``model`` has weights to which the memory format matters."""
    return any(parameter.dim() == 4 for parameter in model.parameters())


def format_for(model: nn.Module, *, channels_last: bool) -> torch.memory_format:
    """Of the images of ``model``, where ``channels_last`` is what convolutions should have."""
    return torch.channels_last if channels_last and convolves(model) else torch.contiguous_format
