"""Meters of a block of updates: time, and on a GPU energy."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any, Protocol

import torch

Device = str
"""``cpu`` or ``cuda``."""


class Meter(Protocol):
    """Read before and after a block."""

    def begin(self) -> None:
        """The block begins."""
        ...

    def end(self) -> dict[str, float]:
        """The block has ended: ``seconds``, ``cpu_seconds`` of this process, and ``joules`` where they can be read."""
        ...

    def peak_bytes(self) -> int:
        """Most memory so far: of this process, or what it had allocated on its GPU."""
        ...


def meter_for(device: Device) -> Meter:
    """The gauge of the device that computes."""
    return CudaMeter() if device == "cuda" else HostMeter()


class HostMeter:
    """The clocks of this process."""

    def __init__(self) -> None:
        self._began = self._cpu = 0.0

    def begin(self) -> None:
        """See ``Meter.begin``."""
        self._cpu = time.process_time()
        self._began = time.perf_counter()

    def end(self) -> dict[str, float]:
        """See ``Meter.end``."""
        return {"seconds": time.perf_counter() - self._began, "cpu_seconds": time.process_time() - self._cpu}

    def peak_bytes(self) -> int:
        """Largest resident size; ``getrusage`` would begin with that of the process that started this one."""
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise OSError("/proc/self/status names no VmHWM")


class CudaMeter:
    """CUDA events around a block whose work is done when it ends, and the energy counter of NVML.

    The counter (``nvmlDeviceGetTotalEnergyConsumption``, from Volta on) is that of the whole GPU and moves some ten
    times a second, so blocks should take half a second at least.
    """

    def __init__(self) -> None:
        self._torch = torch
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._meter = _energy_meter(torch.cuda.get_device_properties(torch.cuda.current_device()))
        self._millijoules = 0
        self._cpu = 0.0

    def begin(self) -> None:
        """See ``Meter.begin``."""
        self._torch.cuda.synchronize()
        self._cpu = time.process_time()
        self._millijoules = self._read()
        self._events[0].record()

    def end(self) -> dict[str, float]:
        """See ``Meter.end``."""
        began, ended = self._events
        ended.record()
        self._torch.cuda.synchronize()
        found = {"seconds": began.elapsed_time(ended) / 1e3, "cpu_seconds": time.process_time() - self._cpu}
        if self._meter is not None:
            found["joules"] = (self._read() - self._millijoules) / 1e3
        return found

    def peak_bytes(self) -> int:
        """See ``Meter.peak_bytes``."""
        return int(self._torch.cuda.max_memory_allocated())

    def _read(self) -> int:
        return 0 if self._meter is None else self._meter()


def _energy_meter(properties: Any) -> Any:
    """Reads the millijoules of the GPU with these properties; None where NVML or its counter is not there."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError_NotSupported:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
