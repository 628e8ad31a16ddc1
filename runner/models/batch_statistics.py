"""Layers that take statistics over the examples of a batch: which of them GroupNorm can replace, and which not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from runner.errors import RequestError
from runner.internals.modules import has_hooks
from runner.models.layer_kinds import BATCH_NORMS, INSTANCE_NORMS

FUSED = ("drop", "act")
"""What timm puts behind the normalisation of one layer, in this order."""
_PARAMETERS = {"weight", "bias"}
_BUFFERS = {"running_mean", "running_var", "num_batches_tracked"}


def exchangeable(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``model`` by name that are BatchNorm and nothing else, but for what timm fuses with it.

    Raises:
        RequestError: ``model`` has another layer with statistics over a batch; names it and says why it is another.
    """
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, BATCH_NORMS):
            continue
        if (reason := _is_more(module)) is not None:
            raise no_exchange(name, module, reason)
        found[name] = module
    inside = {child for module in found.values() for child in module.modules() if child is not module}
    for name, module, reason in without_exchange(model):
        if module not in inside:
            raise no_exchange(name, module, reason)
    return {name: module for name, module in found.items() if module not in inside}


def batch_norms(model: nn.Module) -> list[str]:
    """The names of the layers of ``model`` that are BatchNorm, whatever else they are."""
    return [name for name, module in model.named_modules() if isinstance(module, BATCH_NORMS)]


def without_exchange(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(name, layer, why) of what has statistics of a batch by its class and is no BatchNorm of torch's."""
    layers = sys.modules.get("timm.layers")
    evolved: tuple[Any, ...] = ()
    in_place: tuple[Any, ...] = ()
    if layers is not None:
        evolved = (layers.EvoNorm2dB0, layers.EvoNorm2dB1, layers.EvoNorm2dB2)
        in_place = (layers.InplaceAbn,)
    for name, module in model.named_modules():
        if isinstance(module, INSTANCE_NORMS) and module.track_running_stats:
            yield name, module, "it keeps running statistics of the examples: track_running_stats=False does not"
        elif isinstance(module, evolved):
            yield name, module, "its activation is no function of the normalised values alone"
        elif isinstance(module, in_place):
            yield name, module, "it normalises and activates in one operation of another package"
        elif isinstance(module, torch.jit.ScriptModule) and "BatchNorm" in module.original_name:
            yield name, module, "it is compiled TorchScript, whose layers cannot be replaced"


def fixed_scales(model: nn.Module) -> list[str]:
    """The names of BatchNorm that is frozen, with statistics that are constants: a scale and shift of each channel."""
    layers, vision = sys.modules.get("timm.layers"), sys.modules.get("torchvision.ops.misc")
    kinds = (
        *([] if layers is None else [layers.FrozenBatchNormAct2d]),
        *([] if vision is None else [vision.FrozenBatchNorm2d]),
    )
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def no_exchange(name: str, layer: nn.Module | str, reason: str) -> RequestError:
    """The refusal of ``layer`` (or its class), called ``name``, when GroupNorm is to take the place of BatchNorm."""
    kind = layer if isinstance(layer, str) else getattr(layer, "original_name", type(layer).__name__)
    return RequestError(
        "model.norm",
        f"group with {name or 'the model'} ({kind})",
        f"BatchNorm of torch or timm in its place, which GroupNorm can replace: {reason}",
    )


def _is_more(layer: nn.Module) -> str | None:
    """Why ``layer``, an instance of BatchNorm, computes or may compute something else; None when it does not."""
    if isinstance(layer, LazyModuleMixin):
        return "its channels are not known before it is used"
    fused = _fused_forwards()
    forward = type(layer).forward
    if "forward" in vars(layer) or forward not in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward, *fused):
        return "it has a forward pass of its own"
    extra = {name for name, _ in layer.named_children()} - set(FUSED if forward in fused else ())
    extra |= {name for name, _ in layer.named_parameters(recurse=False)} - _PARAMETERS
    extra |= {name for name, _ in layer.named_buffers(recurse=False)} - _BUFFERS
    computed = any(not isinstance(getattr(layer, name, None), nn.Parameter | None) for name in _PARAMETERS)
    if extra or computed:
        return f"it has {', '.join(sorted(extra)) or 'weights that are computed'} beside what BatchNorm has"
    if has_hooks(layer):
        return "hooks of its forward or backward pass belong to it"
    return None


def _fused_forwards() -> tuple[Any, ...]:
    """The forward passes of timm's BatchNorm with dropout and activation, where timm is in use."""
    layers = sys.modules.get("timm.layers")
    return () if layers is None else (layers.BatchNormAct2d.forward, layers.SyncBatchNormAct.forward)
