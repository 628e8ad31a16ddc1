"""The sensitivity of a step, measured without noise: how far one example moves the clipped sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.privacy.mechanism.private_rule import PrivateRule
from runner.training.gradients.micro_batches import micro_batches
from runner.training.parts import Parts


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What leaving out one example of a logical batch did to its clipped sum."""

    place: int
    """Of the example in the logical batch, from 0."""
    row: int
    """Of the example in the training set."""
    moved: float
    """L2 norm of the difference of the two sums, over the clipping norm C; at most 1 of a right mechanism."""
    allowed: float
    """1 and what the rounding of both sums may add to it."""

    @property
    def holds(self) -> bool:
        """Whether the example moves the sum by no more than the noise was scaled to."""
        return self.moved <= self.allowed


def measure_sensitivity(
    parts: Parts, step: int, rows: Tensor, *, places: Sequence[int] | None = None, processes: int = 1
) -> list[Sensitivity]:
    """Compute the clipped sum of update ``step`` with and without each of some examples, as a run would.

    Args:
        parts: of a private run; the weights are left as they are.
        step: the update.
        rows: int64 [m], m >= 1: the logical batch, in ascending order.
        places: of the examples that are left out; None for the first, the middle and the last.
        processes: that share the batch; computed here one after another.

    Raises:
        ValueError: the run is not private.
    """
    privacy = parts.plan.semantic.privacy
    if privacy is None:
        raise ValueError("an ordinary run clips no example")
    count = rows.numel()
    whole = clipped_sum(parts, step, rows, processes=processes)
    found = []
    for place in sorted({0, count // 2, count - 1}) if places is None else places:
        rest = torch.cat([rows[:place], rows[place + 1 :]])
        moved = (whole - clipped_sum(parts, step, rest, processes=processes)).norm() / privacy.max_grad_norm
        found.append(
            Sensitivity(place=place, row=int(rows[place]), moved=float(moved), allowed=1 + rounding(parts, count))
        )
    return found


def clipped_sum(parts: Parts, step: int, rows: Tensor, *, processes: int = 1) -> Tensor:
    """The sum over the examples at ``rows`` of their clipped gradients in update ``step``: float64 [parameters]."""
    rule = parts.rule
    assert isinstance(rule, PrivateRule)
    total = torch.zeros_like(rule.clipped_sum, dtype=torch.float64)
    for rank in range(processes):
        rule.begin(float(parts.plan.semantic.logical_batch))
        for _, images, labels in micro_batches(parts, step, rows, rank=rank, size=processes):
            rule.add(images, labels)
        total += rule.clipped_sum
    return total


def rounding(parts: Parts, count: int) -> float:
    """What rounding may add to the difference of the sums of ``count`` clipped gradients and of all but one, over C.

    A sum of m numbers in any order is off by at most n u times the sum of their sizes, here m C for vectors of norm C:
    with n = m - 1 always (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 4.2), and with
    n = 6 sqrt(m) where roundings go either way, but once in 3e7 (Higham and Mary 2019, "A new approach to probabilistic
    rounding error analysis", theorem 2.4).  On top comes one unit of the type of the forward pass, in which a kernel
    may round another way where the batch is smaller.
    """
    unit, forward = (torch.finfo(dtype).eps / 2 for dtype in (parts.parameters[0].dtype, _forward_type(parts)))
    return 2 * count * min(count, 6 * math.sqrt(count)) * unit + forward


def _forward_type(parts: Parts) -> torch.dtype:
    found: torch.dtype = getattr(torch, parts.plan.semantic.precision.dtype)
    return found
