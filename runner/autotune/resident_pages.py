"""Pages of mapped files: those that a process holds in memory, and those that it will once it has read its images.

A forked process starts without those of its parent, libraries mostly, and takes them anew as it meets them, so that
they would be counted as its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from runner.data.feature_feed import AnyFeed
    from runner.data.images import ImageSet

FEW = 4096
"""Images that are read to see what they take: the kernel maps what lies around each in the file as well."""

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


def read_on(images: ImageSet, feed: AnyFeed, read: int) -> int:
    """Read the rest of ``images``, of which ``feed`` has read ``read``, if they are few; else how many bytes it is."""
    rest = unread_bytes(images, feed, read)
    if rest and len(images) <= FEW:
        assert isinstance(images.images, np.memmap)
        images.images[images.rows, 0, 0, 0]
        return 0
    return rest


def unread_bytes(images: ImageSet, feed: AnyFeed, read: int) -> int:
    """Bytes of ``images`` in a mapped file of which ``feed`` has read ``read``; 0 where it holds them otherwise."""
    if feed.is_ready or not isinstance(images.images, np.memmap):
        return 0
    return max(0, len(images) - read) * int(images.images[0].nbytes)
