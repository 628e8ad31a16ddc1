"""The pages of mapped files (mostly libraries) that a process holds in memory.

A forked process starts without those of its parent and takes them anew as it meets them, so that they would be counted
as its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MAPS, _PAGES = Path("/proc/self/maps"), Path("/proc/self/pagemap")
_PAGE = 4096
_PRESENT, _OF_A_FILE = np.uint64(1 << 63), np.uint64(1 << 61)


def file_pages() -> NDArray[np.int64]:
    """Numbers of the resident pages that belong to files, ascending; none where the kernel does not tell.

    The format is that of the kernel's documentation, admin-guide/mm/pagemap.
    """
    if not _PAGES.exists():
        return np.empty(0, dtype=np.int64)
    found = []
    with _PAGES.open("rb", buffering=0) as pages:
        for line in _MAPS.read_text(errors="replace").splitlines():
            place, _, _, _, inode = line.split(maxsplit=5)[:5]
            first, last = (int(address, 16) // _PAGE for address in place.split("-"))
            if inode == "0":
                continue
            pages.seek(8 * first)
            entries = np.frombuffer(pages.read(8 * (last - first)), dtype=np.uint64)
            wanted = _PRESENT | _OF_A_FILE
            found.append(first + np.flatnonzero((entries & wanted) == wanted))
    return np.concatenate(found)


def bytes_in_both(pages: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """Bytes of the pages that two answers of ``file_pages`` share."""
    return _PAGE * len(np.intersect1d(pages, others, assume_unique=True))
