"""Bytes and seconds as a plan says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.forecast.forecast import Interval
    from runner.planning.device import Device


def mib(count: float) -> str:
    """Say a memory in MiB."""
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else "under 1 MiB"


def seconds_text(seconds: float) -> str:
    """Say a time to two digits, such as ``0.42 s``, ``17 s``, ``3.1 min`` or ``2.5 h``."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def seconds_range(range_: Interval) -> str:
    """Say a time and where it should lie."""
    return f"{seconds_text(range_.expected)} ({seconds_text(range_.low)} to {seconds_text(range_.high)})"


def time_text(seconds: Interval, device: Device) -> str:
    """Say how long a run takes on ``device``, of which nothing is known if it is not here."""
    if device.here:
        return seconds_range(seconds)
    return f"not known on {device.name}; in float32 on this machine's CPU {seconds_range(seconds)}"
