"""Stored pixels that a run has yet to read, which will count as its memory from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from runner.data.feed import Feed
    from runner.data.images import ImageSet


FEW = 4096
"""Images that are read to see what they take: the kernel maps what lies around each in the file as well."""


def read_on(images: ImageSet, feed: Feed, read: int) -> int:
    """Read the rest of ``images``, of which ``feed`` has read ``read``, if they are few; else how many bytes it is."""
    rest = unread_bytes(images, feed, read)
    if rest and len(images) <= FEW:
        assert isinstance(images.images, np.memmap)
        images.images[images.rows, 0, 0, 0]
        return 0
    return rest


def unread_bytes(images: ImageSet, feed: Feed, read: int) -> int:
    """Bytes of ``images`` in a mapped file of which ``feed`` has read ``read``; 0 where it holds them otherwise."""
    if feed.is_ready or not isinstance(images.images, np.memmap):
        return 0
    return max(0, len(images) - read) * int(images.images[0].nbytes)
