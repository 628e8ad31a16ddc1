"""GroupNorm in the place of BatchNorm, which mixes the examples of a batch and so rules out per-example gradients."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from runner.models.batch_statistics import FUSED, exchangeable

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

    Scale, shift and epsilon are kept, with whether scale and shift are trained; running statistics have no counterpart
    and are dropped.  A dropout and an activation that are fused with the layer follow it, so that it becomes a
    sequence of ``norm``, ``drop`` and ``act``.  A layer in several places stays one.

    Raises:
        RequestError: a layer with statistics over a batch for which that cannot be done; names it.
    """
    replaced = {module: _group_norm(module) for module in exchangeable(model).values()}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and module in replaced:
            model.set_submodule(name, replaced[module])
    return replaced.get(model, model)


def _group_norm(batch: nn.Module) -> nn.Module:
    channels: Any = batch.num_features
    eps: Any = batch.eps
    group = nn.GroupNorm(groups_for(channels), channels, eps=eps, affine=False)
    # the very parameters: shared and frozen ones stay so, and without a shift there is none
    group.weight, group.bias = batch.weight, batch.bias  # type: ignore[assignment]
    group.train(batch.training)
    kept = [(name, module) for name, module in batch.named_children() if type(module) is not nn.Identity]
    if not kept:
        return group
    in_order = sorted(kept, key=lambda each: FUSED.index(each[0]))
    return nn.Sequential(OrderedDict([("norm", group), *in_order]))
