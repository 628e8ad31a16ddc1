"""The speed of this machine, from a few small measurements without a step of the run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from runner.forecast.costs import EXAMPLES
from runner.forecast.operation_counts import count_operations
from runner.models.memory_format import format_for
from runner.training.precision.precision import Precision

_ROUNDS = 3
_SECONDS = 0.15
"""After which no further round begins."""
_LARGER_SECONDS = 0.3
"""What one pass of the larger batch may take."""
_AT_LEAST = 8
"""Images of the larger batch however long they take."""
_STREAM_BYTES = 2**24
"""Beyond what most caches hold."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Seconds of a network's forward and backward pass."""

    per_example: float
    per_batch: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates of one device and one disk."""

    bytes_per_second: float
    """Of memory that is read and written."""
    kernel_seconds: float
    """One operation with its share of autograd, however little it computes."""
    write_seconds: float
    """A small file, written and synced to the disk."""


def time_passes(model: nn.Module, precision: Precision, *, image_shape: tuple[int, ...], batch: int) -> Passes:
    """Time both passes of ``model`` on blank images [C, H, W], in two sizes of at most ``batch``."""
    device = precision.device
    layout = format_for(model, channels_last=True)
    model = model.to(device=device, dtype=precision.parameter_dtype, memory_format=layout)  # type: ignore[call-overload]

    def both_passes(count: int) -> float:
        images = torch.zeros(count, *image_shape, dtype=precision.parameter_dtype, device=device)
        images = images.contiguous(memory_format=layout)

        def once() -> None:
            with precision.forward():
                logits = model(images)
            logits.float().sum().backward()

        return _median(once, device)

    few = EXAMPLES
    once = both_passes(few)
    # what a batch of the run's size does to the caches counts, where it can be afforded
    many = min(batch, max(_AT_LEAST, int(_LARGER_SECONDS / once * few)))
    if many <= few:
        return Passes(per_example=once / few, per_batch=0.0)
    per_example = max(0.0, both_passes(many) - once) / (many - few)
    return Passes(per_example=per_example, per_batch=max(0.0, once - few * per_example))


def measure_machine(device: torch.device, folder: Path) -> Machine:
    """Measure ``device`` with torch's present settings; ``folder`` takes a small file for a moment."""
    small = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(8, 8), nn.ReLU()))).to(device)
    vectors = torch.zeros(8, 8, device=device)

    def chain() -> None:
        small(vectors).sum().backward()

    kernels = count_operations(chain).kernels
    stream = torch.zeros(_STREAM_BYTES // 4, device=device)

    def stream_through() -> None:
        stream.mul_(1.0)

    return Machine(
        bytes_per_second=2 * _STREAM_BYTES / _median(stream_through, device),
        kernel_seconds=_median(chain, device) / kernels,
        write_seconds=_write(folder),
    )


def _median(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the middle one of a few rounds, of two the lesser, after one that is not timed.

    A single one may have waited for another program for a hundred times as long as it worked.
    """
    taken: list[float] = []
    begun = time.perf_counter()
    for number in range(_ROUNDS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            taken.append(time.perf_counter() - start)
            if len(taken) > 1 and time.perf_counter() - begun > _SECONDS:
                break
    return statistics.median_low(taken)


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
