"""The kernels of ``torch.amp.GradScaler`` without GradScaler, which counts no skips and waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from runner.internals.plain import plain_torch


def unscale_(gradients: list[Tensor], found: Tensor, inverse: Tensor) -> None:
    """Multiply ``gradients`` by ``inverse`` in place; ``found`` becomes 1 where one of them is not finite.

    The kernel reads each gradient once, and all of them in one call; the device is not waited for.

    Args:
        gradients: on one device.
        found: float32 [], stays as it is where all are finite.
        inverse: float32 [], 1 over the loss scale.
    """
    if not plain_torch():
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, inverse)
    elif gradients:
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        found.copy_(torch.where(finite, found, torch.ones_like(found)))
        for gradient in gradients:
            gradient.mul_(inverse)


def update_scale_(
    scale: Tensor, growth_tracker: Tensor, found: Tensor, growth_factor: float, backoff_factor: float, interval: int
) -> None:
    """GradScaler's rule after one update, in place.

    Args:
        scale: float32 [].
        growth_tracker: int32 [], updates since the scale last changed.
        found: float32 [], 1 where the update was skipped.
        growth_factor: of the scale after ``interval`` updates in a row, unless that were infinite.
        backoff_factor: of the scale after a skipped one.
        interval: updates.
    """
    if not plain_torch():
        torch._amp_update_scale_(scale, growth_tracker, found, growth_factor, backoff_factor, interval)
        return
    skipped = found > 0
    updates = growth_tracker + 1
    due = updates >= interval
    wide = scale if scale.device.type == "mps" else scale.double()  # as the kernels multiply; Metal has no float64
    grown = (wide * growth_factor).to(scale.dtype)
    kept = torch.where(due & grown.isfinite(), grown, scale)
    scale.copy_(torch.where(skipped, wide * backoff_factor, kept))
    growth_tracker.copy_(torch.where(skipped | due, torch.zeros_like(updates), updates))
