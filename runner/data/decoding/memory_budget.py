"""The memory budget that all decoding threads of a process share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

ROOM_BYTES = 512 * 2**20
"""Decoded bytes at a time, over all threads.  One image that needs more than this is decoded alone."""

LARGE_FILE_BYTES = 16 * 2**20
"""Files beyond this are held in memory one at a time."""


class DecodingMemory:
    """Memory that threads take before they decode an image and give back when they have made use of it.

    A thread waits only while others hold something, and takes all that it needs at once, so none waits for ever.
    """

    def __init__(self, total: int = ROOM_BYTES) -> None:
        """``total`` bytes to share out."""
        self._total = total
        self._held = 0
        self._freed = threading.Condition()
        self._large_file = threading.Lock()
        self._own = threading.local()

    @contextlib.contextmanager
    def one_image(self) -> Iterator[None]:
        """Around everything that a thread does with one image, from reading its file on; gives back what it took."""
        self._own.bytes, self._own.has_large_file = 0, False
        try:
            yield
        finally:
            if self._own.has_large_file:
                self._large_file.release()
            if self._own.bytes:
                with self._freed:
                    self._held -= self._own.bytes
                    self._freed.notify_all()
            del self._own.bytes

    def take_file(self, size: int) -> None:
        """Wait until a file of ``size`` bytes may be read; before ``take``, so that both cannot wait for each other."""
        if self._within and size > LARGE_FILE_BYTES and not self._own.has_large_file:
            self._large_file.acquire()
            self._own.has_large_file = True

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes are free, or nobody else holds any.

        Outside ``one_image`` nothing is taken: nobody could tell when to give it back.  A second time within the same
        image it does not wait, for whoever waits while it holds something could wait for ever.
        """
        if not self._within:
            return
        with self._freed:
            if not self._own.bytes:
                self._freed.wait_for(lambda: not self._held or self._held + size <= self._total)
            self._held += size
            self._own.bytes += size

    @property
    def _within(self) -> bool:
        return hasattr(self._own, "bytes")


ROOM = DecodingMemory()
