"""One step of an optimizer, without what torch wraps around it for profilers and hooks when there are none."""

from __future__ import annotations

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from runner.internals.plain import plain_torch

_WITHOUT_GRAD = torch_optimizer._use_grad_for_differentiable(lambda optimizer: None).__code__
"""What torch wraps around the ``step`` of its own classes; it imports torch's compiler to mark a break in a graph."""


def lean_step(optimizer: Optimizer) -> None:
    """Do what ``optimizer.step()`` does.

    torch replaces the ``step`` of every optimizer class by ``Optimizer.profile_hook_step`` of it, which opens a range
    of the profiler and looks for hooks.  The range goes through TorchScript's dispatcher: 20 to 50 us, on a small model
    a fifth of the whole update.  Below that, ``step`` of torch's own classes switches gradients off, for which it
    imports torch's compiler; here they are switched off without it.
    """
    step = type(optimizer).step
    needed = (
        plain_torch()
        or not getattr(step, "hooked", False)
        or "step" in vars(optimizer)
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
        or torch._C._autograd._profiler_enabled()
    )
    if needed:
        optimizer.step()
        return
    inner = step.__wrapped__  # type: ignore[attr-defined]
    if getattr(inner, "__code__", None) is not _WITHOUT_GRAD:
        inner(optimizer)
        return
    with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
        inner.__wrapped__(optimizer)
