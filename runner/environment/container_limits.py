"""CPU and memory limits of control groups, own and inherited.

Version 2 has one tree of groups (cgroups(7); ``cpu.max``, ``memory.max``), version 1 a tree for each controller
(``cpu.cfs_quota_us``, ``memory.limit_in_bytes``); a machine may have both.  The narrowest limit on the way up counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 2**60
"""Bytes from which on a limit of version 1 is none: the largest multiple of a page that fits a signed 64-bit number."""


def allowed_cores(root: Path = Path("/")) -> int:
    """CPU cores that this process may use, at least 1: those that it may run on, and no more than its quota is worth.

    A quota of 1.5 cores is worth 1: threads beyond it would wait for each other while none of them may run.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([here, *map(int, _quotas(root))]))


def allowed_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process's groups may hold; None where nothing limits them."""
    return min((limit for limit, _ in _memory(root)), default=None)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process's groups may still take; None where nothing limits them.

    Cached pages of files that nobody has used lately are free: the kernel gives them back first.
    """
    return min((max(0, limit - used) for limit, used in _memory(root)), default=None)


def _quotas(root: Path) -> Iterator[float]:
    for version, group in _groups(root, "cpu"):
        with contextlib.suppress(OSError, ValueError):
            if version == 2:
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota = (group / "cpu.cfs_quota_us").read_text().strip()
                period = (group / "cpu.cfs_period_us").read_text()
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period)


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each group that has a limit, in bytes."""
    for version, group in _groups(root, "memory"):
        names = (
            ("memory.max", "memory.current", "inactive_file")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        with contextlib.suppress(OSError, ValueError):
            limit = (group / names[0]).read_text().strip()
            if limit == "max" or int(limit) >= _UNLIMITED:
                continue
            used = int((group / names[1]).read_text())
            with contextlib.suppress(OSError, ValueError, KeyError):
                stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                used -= int(stat[names[2]])
            yield int(limit), used


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Version and folder of this process's group for ``controller`` and of those above it that can be seen."""
    try:
        mounts = [_mount(line) for line in (root / "proc/self/mountinfo").read_text().splitlines()]
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, own = line.split(":", 2)
        version = 2 if number == "0" and not controllers else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        for kind, options, top, place in mounts:
            if kind != ("cgroup2" if version == 2 else "cgroup") or (version == 1 and controller not in options):
                continue
            # a container sees a part of the tree: its own group as the top, under a name from outside
            inside = Path(own).relative_to(top) if Path(own).is_relative_to(top) else Path()
            bottom = root / place.lstrip("/")
            for path in (inside, *inside.parents):
                yield version, bottom / path
            break


def _mount(line: str) -> tuple[str, list[str], str, str]:
    """Type, options, root within its file system and place of a mount (proc_pid_mountinfo(5))."""
    before, _, after = line.partition(" - ")
    fields, (kind, _, options) = before.split(" "), after.split(" ", 2)
    top, place = (field.encode().decode("unicode_escape") for field in fields[3:5])
    return kind, options.split(","), top, place
