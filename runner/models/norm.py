"""GroupNorm in the place of BatchNorm, which mixes the examples of a batch and so rules out per-example gradients."""

from __future__ import annotations

import torch
from torch import nn

MAX_GROUPS = 32
MIN_GROUP_WIDTH = 4


def groups_for(channels: int) -> int:
    """Number of groups for ``channels``: the largest divisor that is at most 32 and leaves at least 4 channels a group.

    32 is the choice of Wu and He 2018.  The floor keeps a map of one pixel from being normalised to nothing: with a
    single channel in a group its mean would be the value itself.
    """
    return max(g for g in range(1, min(MAX_GROUPS, max(1, channels // MIN_GROUP_WIDTH)) + 1) if channels % g == 0)


def batch_to_group(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm of ``model``, in place, and return it (or its replacement if it is one itself).

    Scale, shift and epsilon are kept; running statistics have no counterpart and are dropped.
    """
    if isinstance(model, nn.modules.batchnorm._BatchNorm):
        return _group_norm(model)
    for name, child in model.named_children():
        setattr(model, name, batch_to_group(child))
    return model


def _group_norm(batch: nn.modules.batchnorm._BatchNorm) -> nn.GroupNorm:
    group = nn.GroupNorm(groups_for(batch.num_features), batch.num_features, eps=batch.eps, affine=batch.affine)
    if batch.affine:
        with torch.no_grad():
            group.weight.copy_(batch.weight)
            group.bias.copy_(batch.bias)
    return group
