"""Energy that this machine's own meters count: NVML of NVIDIA GPUs, and RAPL of CPUs."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
NO_METER = "no meter was found: NVML counts on NVIDIA GPUs since Volta, RAPL on CPUs where its files may be read"

_PACKAGE = re.compile(r"intel-rapl:\d+")
"""A whole processor; ``intel-rapl:0:1`` is a part of one, such as its cores, and counted in it."""


@dataclass
class Counter:
    """A meter that counts up, in joules since some moment."""

    name: str
    """Unique among the machines of a run."""
    read: Callable[[], float]
    wraps_at: float | None = None
    """Joules at which it begins anew; None where it never does."""
    last: float = field(kw_only=True)
    """The reading before."""
    total: float = field(default=0.0, init=False)
    """Joules since the first reading."""

    def update(self) -> None:
        """Add what was used since the last reading, during which it begins anew once at most."""
        now = self.read()
        passed = now - self.last
        if passed < 0 and self.wraps_at is not None:
            passed += self.wraps_at
        self.total += max(passed, 0.0)
        self.last = now


class EnergyMeters:
    """The counters that one process reads, from now on."""

    def __init__(self, gpu: str | None = None) -> None:
        """``gpu`` is the UUID of the NVIDIA device that it computes on, None without one."""
        self._counters = [*_packages(), *([] if gpu is None else _gpus(gpu))]

    def update(self) -> None:
        """Read every counter; at least once before one begins anew, which takes minutes."""
        for counter in self._counters:
            counter.update()

    def joules(self) -> dict[str, float]:
        """Name of each counter -> joules since the beginning."""
        self.update()
        return {counter.name: counter.total for counter in self._counters}


def has_meter() -> bool:
    """Whether this machine counts energy, by a CPU or by any NVIDIA GPU."""
    return bool(_packages()) or _nvml() is not None


def joules_of_all(processes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Name of each counter -> joules, of what several processes read: a meter that two have read counts once."""
    names = dict.fromkeys(name for one in processes for name in one)
    return {name: max(one.get(name, 0.0) for one in processes) for name in names}


def _packages() -> list[Counter]:
    """One counter a processor; none where they may not be read, as by others than root on most systems."""
    found = []
    for folder in sorted(POWERCAP.glob("intel-rapl:*")):
        if not _PACKAGE.fullmatch(folder.name):
            continue
        try:
            what = (folder / "name").read_text().strip()
            wraps_at = int((folder / "max_energy_range_uj").read_text()) / 1e6
            read = _reading(folder / "energy_uj")
            read()
        except (OSError, ValueError):
            continue
        if what.startswith("package"):
            found.append(Counter(f"{socket.gethostname()} {what}", read, wraps_at, last=read()))
    return found


def _reading(file: Path) -> Callable[[], float]:
    return lambda: int(file.read_text()) / 1e6


def _nvml() -> Any | None:
    """The library, begun; None where it or a driver is not there."""
    try:
        # of an extra, and of no use without a GPU
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, or another one
        return None
    return pynvml


def _gpus(uuid: str) -> list[Counter]:
    library = _nvml()
    if library is None:
        return []
    try:
        handle = library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}".encode())

        def read() -> float:
            return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3

        first = read()
    except library.NVMLError:  # not supported before Volta, and in virtual devices
        return []
    return [Counter(f"GPU-{uuid.removeprefix('GPU-')}", read, last=first)]
