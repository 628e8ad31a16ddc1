"""Facts about the device that a run will use: what is native here, never what is emulated."""

from __future__ import annotations

import dataclasses
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from runner.config.rules.ranges import read_bytes
from runner.environment.container_limits import allowed_cores, allowed_memory
from runner.errors import RequestError
from runner.planning.native_types import Natives, natives_of, of_capability

if TYPE_CHECKING:
    from runner.config.schema import HardwareConfig


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device and what its hardware can do."""

    kind: str
    """``cpu``, ``cuda`` or ``mps``."""
    name: str
    """Name of the chip as its driver gives it."""
    native: Natives
    """What it multiplies in hardware."""
    count: int
    """Devices of this kind on this machine."""
    memory_bytes: int
    """Memory of one device; for a CPU the machine's."""
    memory_limited: bool = False
    """Whether ``hardware.memory_limit`` leaves less than there is; nothing keeps a run of a fixed batch to that."""
    here: bool = True
    """False for a GPU of another machine, which a plan is made for."""


def _elsewhere(name: str, *, capability: tuple[int, int], gigabytes: int) -> Device:
    return Device(
        kind="cuda",
        name=name,
        native=of_capability(*capability, bf16=capability >= (8, 0)),
        count=1,
        memory_bytes=gigabytes * 10**9,
        here=False,
    )


_GPUS = {
    "v100": _elsewhere("NVIDIA V100", capability=(7, 0), gigabytes=16),
    "a100": _elsewhere("NVIDIA A100", capability=(8, 0), gigabytes=40),
    "h100": _elsewhere("NVIDIA H100", capability=(9, 0), gigabytes=80),
}
"""What NVIDIA's data sheets and the CUDA C++ programming guide, "compute capabilities", say of them."""


def detect_device(config: HardwareConfig) -> Device:
    """The device that ``config.device`` asks for, with the memory that ``config.memory_limit`` leaves of it.

    Raises:
        RequestError: the device is not here.
    """
    return _limited(_detect(config), config)


def describe_absent_device(config: HardwareConfig) -> Device:
    """``detect_device``, or the GPU that ``config.gpu`` names where a CUDA device is asked for and none is here.

    Raises:
        RequestError: the device is not here, and nothing is known of it, or not how many there are.
    """
    if config.device == "cuda" and config.gpu is not None and not torch.cuda.is_available():
        if config.processes is None:
            raise RequestError("hardware.processes", None, "how many GPUs there are: that machine cannot be asked")
        return _limited(_GPUS[config.gpu], config)
    return detect_device(config)


def installed_bytes(config: HardwareConfig) -> int:
    """Memory of the device that ``config.device`` asks for, whatever ``config.memory_limit`` says.

    Raises:
        RequestError: the device is not here.
    """
    return _detect(config).memory_bytes


def _limited(device: Device, config: HardwareConfig) -> Device:
    if config.memory_limit is None:
        return device
    limit = read_bytes(config.memory_limit)
    return dataclasses.replace(device, memory_bytes=limit, memory_limited=limit < device.memory_bytes)


def _detect(config: HardwareConfig) -> Device:
    kind: str = config.device
    if kind == "auto":
        kind = kinds_here()[0]
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise RequestError("hardware.device", "cuda (no CUDA device is visible)", "hardware=cpu or hardware=auto")
        properties = torch.cuda.get_device_properties(0)
        return Device(
            kind="cuda",
            name=properties.name,
            native=natives_of(kind),
            count=torch.cuda.device_count(),
            memory_bytes=properties.total_memory,
        )
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise RequestError(
                "hardware.device", "mps (this machine has no Apple GPU)", "hardware=cpu or hardware=auto"
            )
        return Device(
            kind="mps",
            name="Apple GPU",
            native=natives_of(kind),
            count=1,
            memory_bytes=ram_bytes(),
        )
    return Device(
        kind="cpu",
        name=cpu_name(),
        native=natives_of(kind),
        count=1,
        memory_bytes=ram_bytes(),
    )


def kinds_here() -> list[str]:
    """Kinds of devices that this machine has."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, here in found.items() if here]


def ram_bytes() -> int:
    """Memory of this machine, or what a container may have of it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(installed, allowed_memory() or installed)


def cpu_name() -> str:
    """Name of the processor, as its maker gives it where that can be read."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """CPU cores that this process may use."""
    return allowed_cores()
