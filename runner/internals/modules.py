"""What a module holds that torch lists to nobody: hooks, and buffers that are None."""

from __future__ import annotations

from torch import Tensor, nn


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether code runs before or after the forward pass of ``module`` itself."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def has_hooks(module: nn.Module) -> bool:
    """Whether code runs before or after the forward or backward pass of ``module`` itself."""
    return has_forward_hooks(module) or bool(module._backward_hooks or module._backward_pre_hooks)


def buffer_slots(module: nn.Module) -> dict[str, Tensor | None]:
    """Name -> buffer of ``module`` itself, with those that hold None, which ``named_buffers`` leaves out."""
    return dict(module._buffers)
