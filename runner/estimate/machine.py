"""How fast this machine is, by four small measurements of a few milliseconds each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from runner.training.precision import Precision

_ROUNDS = 5
_STREAM_BYTES = 2**25
"""Beyond what caches hold."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates of one device, as a network's operations meet them."""

    convolution_flops: float
    """Floating-point operations a second of a convolution's forward and backward pass, in the run's precision."""
    product_flops: float
    """The same of a linear layer's."""
    bytes_per_second: float
    """Of memory that is read and written."""
    kernel_seconds: float
    """Least time of one operation with its share of autograd, however little it computes."""
    write_seconds: float
    """A small file, written and synced to the disk."""


def measure_machine(precision: Precision, folder: Path) -> Machine:
    """Measure the device of ``precision`` with torch's present settings; ``folder`` takes a small file for a moment."""
    device = precision.device

    def training(layers: nn.Module, shape: tuple[int, ...]) -> float:
        layers = layers.to(device)
        images = torch.rand(shape, device=device)

        def both_passes() -> None:
            with precision.forward():
                layers(images).sum().backward()

        return _least(both_passes, device)

    convolution = training(
        nn.Conv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        (16, 32, 16, 16),
    )
    product = training(nn.Linear(512, 512), (128, 512))
    small = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(8, 8), nn.ReLU())))
    chain = training(small, (8, 8))
    stream = torch.zeros(_STREAM_BYTES // 4, device=device)

    def stream_through() -> None:
        stream.mul_(1.0)

    return Machine(
        # two passes, the backward one twice the forward's, of which the first layer's needs no gradient of its input
        convolution_flops=2 * (2 * 16 * 32 * 32 * 9 * 16 * 16) / convolution,
        product_flops=2 * (2 * 128 * 512 * 512) / product,
        bytes_per_second=2 * _STREAM_BYTES / _least(stream_through, device),
        # per layer: forward, and a product each for weights and inputs, their sums, and the activation's two passes
        kernel_seconds=chain / (8 * 7),
        write_seconds=_write(folder),
    )


def _least(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest of a few rounds, after one that is not timed."""
    best = float("inf")
    for number in range(_ROUNDS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            best = min(best, time.perf_counter() - start)
    return best


def _write(folder: Path) -> float:
    path = folder / f".plan-{os.getpid()}"
    start = time.perf_counter()
    with path.open("wb") as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds
