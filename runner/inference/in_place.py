"""Activations that write over what the layer before them has just made: the same bits, less memory to go through."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

_MAKES_ITS_OUTPUT = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.BatchNorm2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Hardswish)


def activate_in_place(model: nn.Module) -> nn.Module:
    """Change ``model``, which will not be trained any more, where nothing else can look at what is written over.

    That is so inside an ``nn.Sequential``, whose layers hand each output to the next one alone.
    """
    for chain in model.modules():
        if isinstance(chain, nn.Sequential) and type(chain).forward is nn.Sequential.forward:
            for before, layer in pairwise(chain):
                if isinstance(before, _MAKES_ITS_OUTPUT) and isinstance(layer, _ACTIVATIONS):
                    layer.inplace = True
    return model
