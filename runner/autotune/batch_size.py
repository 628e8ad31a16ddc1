"""``data.batch_size=auto``: the largest micro-batch that fits into the memory, found by measuring."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runner.autotune.peak_memory import TOO_FEW, PeakMemory
from runner.autotune.rehearsal import one_share
from runner.config.choice import Choice
from runner.config.rules.batches import divisors
from runner.config.rules.ranges import read_bytes
from runner.errors import RequestError
from runner.planning.device import installed_bytes
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.records.sink import package_of
from runner.training.distributed.world import torch_device
from runner.training.run_data import resolved_data_config

if TYPE_CHECKING:
    from runner.config.schema import HardwareConfig, RunConfig
    from runner.planning.device import Device
    from runner.planning.plan import Plan

_SHARE = 0.9
"""Of a device's memory, whatever limit is given: the rest is for what is not measured."""
_VARIES = 1.35
"""How much more than was measured the activations of a run may take on a CPU.

The allocator places the same tensors otherwise each time and keeps what lies between them: what runs of one setting
took beyond the smallest batch differed by a third (docs/results/2026-11-23-plan.md).
"""
_GIB = 2**30


def memory_limit(config: HardwareConfig, device: Device, processes: int) -> int:
    """Bytes that a process may take: nearly all that there is, on a CPU its share of it, or less if asked."""
    sharing = 1 if device.kind == "cuda" else processes
    here = int(_SHARE * installed_bytes(config) / sharing)
    return here if config.memory_limit is None else min(here, read_bytes(config.memory_limit))


def fitting_batch(plan: Plan, config: RunConfig, device: Device) -> Choice[int]:
    """The largest divisor of a process's share of the effective batch that fits on this process's device.

    Sizes are doubled until one does not fit, then bisected, so no size is tried that is far beyond the memory.  Each
    is measured: on a CPU by the run in short, on a GPU by updates on random images.  Where a limit was asked for, what
    varies from run to run fits into it as well.

    Raises:
        RequestError: not even one example fits.
        RunError: see ``PeakMemory.of``.
    """
    limit = memory_limit(config.hardware, device, plan.performance.processes)
    share = plan.performance.batch_size * plan.performance.accumulation_steps
    asked = config.hardware.memory_limit
    decides = asked is not None and limit == read_bytes(asked)
    # of all memory a part is left free anyway
    varies = _VARIES if decides and device.kind != "cuda" else 1.0
    # what the run holds already: libraries, data and, on a CPU, everything else in the process
    where = torch_device(device.kind)
    reset_peak_memory(where)
    held = peak_memory_bytes(where)
    peaks: dict[int, int] = {}
    limited = _TimeLimit(plan.performance.probe_seconds)
    with PeakMemory(
        device.kind, resolved_data_config(config, plan.semantic.data), tracker=package_of(config.tracker)
    ) as memory:

        def fits(size: int) -> bool:
            if not limited.leaves_time_for(size):
                return False
            tried = with_batch(plan, Choice(size, "measurement", None))
            growth = memory.of(one_share(tried, size, _micro_batches(plan, share // size)))
            limited.took(size)
            if growth is None:
                return False
            if growth == TOO_FEW:
                return True
            peaks[size] = held + growth
            least = min(peaks.values())
            return least + varies * (peaks[size] - least) <= limit

        sizes = [size for size in divisors(share) if size <= (config.hardware.micro_batch or share)]
        best = largest(sizes, fits) if held < limit else None
    if best is not None and best not in peaks:
        raise RequestError(
            "data.batch_size",
            "auto",
            f"a model without BatchNorm, such as model.norm=group: it has no statistics of {best} example, and more do"
            " not fit",
        )
    if best is None:
        raise RequestError(
            "hardware.memory_limit",
            asked if decides else f"{limit / _GIB:.2f} GiB",
            f"more than {min(peaks.values(), default=held) / _GIB:.2f} GiB, which one example takes at least, or a"
            " smaller model or data.image_size, or precision=bf16"
            f"{'' if plan.semantic.privacy else ', or model.gradient_checkpointing=true where the model has it'}",
        )
    figures = ", ".join(f"{size} take {peak / _GIB:.3f} GiB" for size, peak in sorted(peaks.items()))
    room = f" with {varies:g} times what it takes beyond the smallest, because runs differ" if varies > 1 else ""
    less = "" if asked is None or decides else f" (hardware.memory_limit={asked} is more than a process may take here)"
    there = f"{limit / _GIB:.3f} GiB{less}{room}"
    reason = f"the largest divisor of {share} whose update fits into {there}, measured: {figures}{limited.figures}"
    return Choice(best, "measurement", reason)


class _TimeLimit:
    """Leaves out sizes that would take the measuring past its seconds; the first is always measured."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start = self._begun = time.perf_counter()
        self._taken: list[tuple[int, float]] = []
        self._left_out: list[int] = []

    def leaves_time_for(self, size: int) -> bool:
        """Whether ``size`` can be measured within the seconds, by what the two sizes before it took."""
        self._begun = time.perf_counter()
        if not self._taken:
            return True
        last, took = self._taken[-1]
        rate = 0.0
        if len(self._taken) > 1:
            before, earlier = self._taken[-2]
            rate = max(0.0, (took - earlier) / (last - before))
        if self._begun - self._start + took + rate * (size - last) <= self._seconds:
            return True
        self._left_out.append(size)
        return False

    def took(self, size: int) -> None:
        """``size`` has been measured."""
        self._taken.append((size, time.perf_counter() - self._begun))

    @property
    def figures(self) -> str:
        """What was left out, for the reason of the choice."""
        if not self._left_out:
            return ""
        return f"; hardware.probe_seconds={self._seconds:g} left no time for {min(self._left_out)} and more"


def largest(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of the ascending ``sizes`` that ``fits``, if whatever is below one that fits does; None for none."""
    low, high = -1, len(sizes)
    while high - low > 1:
        if high < len(sizes):
            tried = (low + high) // 2
        else:  # nothing was too large so far
            twice = 0 if low < 0 else 2 * sizes[low]
            tried = max(low + 1, bisect_right(sizes, twice) - 1)
        if fits(sizes[tried]):
            low = tried
        else:
            high = tried
    return sizes[low] if low >= 0 else None


def _micro_batches(plan: Plan, accumulation: int) -> int:
    """How many show what all of them take: the second meets the gradients of the first.

    A Poisson sample is larger or smaller than its mean; of a mean of several micro-batches the first is full.
    """
    return min(2, accumulation) if plan.semantic.privacy is None else 4


def with_batch(plan: Plan, size: Choice[int]) -> Plan:
    """``plan`` in micro-batches of ``size``; evaluation, which keeps no activations, fits with as many examples."""
    performance = plan.performance
    return plan.evolve(
        {
            "performance.batch_size": size.value,
            "performance.accumulation_steps": performance.batch_size * performance.accumulation_steps // size.value,
            "performance.eval_batch_size": min(performance.eval_batch_size, size.value),
            "performance.batch_reason": size.reason,
            "performance.batch_source": size.source,
        }
    )
