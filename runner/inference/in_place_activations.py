"""Activations that use less memory for the same bits: moved behind a pooling, or in place."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

_MAKES_ITS_OUTPUT = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.BatchNorm2d, nn.MaxPool2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Hardswish)
_NEVER_FALLING = (nn.ReLU, nn.ReLU6)
"""The largest of what they give is what they give for the largest."""


def activate_in_place(model: nn.Module) -> nn.Module:
    """Change ``model``, which will not be trained any more, where nothing else can look at what is written over.

    That is so inside an ``nn.Sequential``, whose layers hand each output to the next one alone.
    """
    for chain in model.modules():
        if isinstance(chain, nn.Sequential) and type(chain).forward is nn.Sequential.forward:
            _pool_first(chain)
            for before, layer in pairwise(chain):
                if isinstance(before, _MAKES_ITS_OUTPUT) and isinstance(layer, _ACTIVATIONS):
                    layer.inplace = True
    return model


def _pool_first(chain: nn.Sequential) -> None:
    """Let an activation see the quarter that is left after a pooling by 2."""
    for at, (layer, following) in enumerate(pairwise(list(chain))):
        pools = isinstance(following, nn.MaxPool2d) and not following.return_indices
        if pools and isinstance(layer, _NEVER_FALLING):
            chain[at], chain[at + 1] = following, layer
