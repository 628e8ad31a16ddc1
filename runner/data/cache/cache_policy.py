"""``data.cache=auto``: on disk where there is space, else in memory, else not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from runner.environment.container_limits import free_memory

log = logging.getLogger(__name__)

DISK_SHARE = 0.8
"""Of the free disk that decoded images may take."""

MEMORY_SHARE = 0.4
"""Of the available memory that the images of all processes may take: the model and its batches need some as well."""


def choose_cache(
    asked: str,
    count: Callable[[], int],
    folder: Path,
    *,
    unwritable: str | None = None,
    what: str = "decoded images",
    made: str = "decoded",
    in_batches: str = "decoded in the background for each batch",
) -> str:
    """``asked``, or for ``auto`` the first of ``disk``, ``memory`` and ``off`` with room for ``count()`` bytes.

    ``folder`` is where the disk's cache lies, ``unwritable`` why it cannot be written.  ``what`` takes the room; how it
    is ``made``, and how where there is none, ``in_batches``.  Says in the log what was chosen and why.
    """
    if asked != "auto":
        return asked
    needed = count()
    disk = shutil.disk_usage(folder).free if unwritable is None else 0
    memory = available_memory()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    lacking = (
        f"only {_size(disk)} are free in {folder}" if unwritable is None else f"{folder} is not written ({unwritable})"
    )
    about = f"data.cache=auto: {what} take {_size(needed)}"
    if unwritable is None and needed <= DISK_SHARE * disk:
        log.info("%s; %s are free in %s: on disk", about, _size(disk), folder)
        return "disk"
    if memory is not None and needed * processes <= MEMORY_SHARE * memory:
        log.warning("%s; %s: in memory, %s anew in each run", about, lacking, made)
        return "memory"
    have = "" if memory is None else f", and {_size(memory)} of memory"
    log.warning("%s; %s%s: no cache, %s", about, lacking, have, in_batches)
    return "off"


def available_memory() -> int | None:
    """Bytes that this process could still take: of the machine, or of its control group; None where nobody says."""
    known = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        known.append(int(fields["MemAvailable"].split()[0]) * 1024)
    if (left := free_memory()) is not None:
        known.append(left)
    return min(known, default=None)


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
