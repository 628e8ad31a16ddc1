"""The share of the device's peak arithmetic and memory bandwidth that a training rate reaches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runner.forecast.costs import EXAMPLES
from runner.forecast.operation_counts import measure_model
from runner.internals.counting import Operations
from runner.internals.trees import tree_leaves

_REPEATS = 20
_SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices whose product is timed."""
_COPIED = {"cpu": 2**26, "cuda": 2**30}
"""Bytes that are copied: more than any cache holds."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one image costs an update."""

    flops: int
    """Floating-point operations of products and convolutions, forward and backward; a multiplication and the addition
    after it are two."""
    bytes: int
    """Read and written in float32 by kernels that run one after the other and meet nothing in a cache."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the device was measured to do."""

    flops: float
    """A second, in a product of large bfloat16 matrices."""
    bytes: float
    """A second, read and written, in a copy."""


class _Traffic(Operations):
    """Bytes of what kernels are given and of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


def work_of(model: nn.Module, image_shape: tuple[int, int, int]) -> Work:
    """Count what ``model``, on the CPU, does for an image [C, H, W]; do not train it afterwards."""
    size = measure_model(model, image_shape=image_shape)
    images = torch.zeros(EXAMPLES, *image_shape)
    with _Traffic() as counted:
        model(images).sum().backward()
    return Work(flops=size.flops, bytes=counted.bytes // EXAMPLES)


def measure_limits(device: str) -> Limits:
    """Time a product and a copy on ``device``."""
    side, size = _SIDE[device], _COPIED[device]
    left, right = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Limits(
        flops=2 * side**3 / _fastest(lambda: torch.mm(left, right), device),
        bytes=2 * size / _fastest(lambda: target.copy_(source), device),
    )


def _fastest(work: Callable[[], Any], device: str) -> float:
    """Seconds of the fastest of some repetitions."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    best = math.inf
    for _ in range(_REPEATS):
        wait()
        began = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - began)
    return best


def shares(images_per_second: float, work: Work, limits: Limits) -> str:
    """A sentence about the share of the limits that a rate takes."""
    flops, moved = images_per_second * work.flops, images_per_second * work.bytes / 2
    return (
        f"{images_per_second:,.0f} images/s of {work.flops / 1e9:.3g} GFLOP are {flops / 1e12:.3g} TFLOP/s,"
        f" {flops / limits.flops:.0%} of what a product of large bfloat16 matrices reaches here"
        f" ({limits.flops / 1e12:.3g}); kernels one after the other would read and write"
        f" {work.bytes / 2e6:.3g} MB an image in 16 bits, {moved / 1e9:.3g} GB/s, {moved / limits.bytes:.0%} of a"
        f" copy's ({limits.bytes / 1e9:,.0f})"
    )
