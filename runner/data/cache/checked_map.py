"""Pixels in a mapped file, each part of which is held against its hash the first time that this process uses it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 2**18
"""Bytes under one hash: a few images, so that the first batches of a run do not read much besides their own."""

DIGEST_BYTES = hashlib.sha256().digest_size

_MANY = 64
"""Blocks from which all cores take part."""


class DamagedFileError(Exception):
    """A file is not what was written; the message says where."""


def hash_blocks(path: Path) -> bytes:
    """SHA-256 of every block of a file, one after the other."""
    with path.open("rb") as file:
        return b"".join(hashlib.sha256(block).digest() for block in iter(lambda: file.read(BLOCK_BYTES), b""))


class Blocks:
    """The blocks of one file: which are known to be whole."""

    def __init__(self, content: Any, digests: bytes, *, name: str) -> None:
        """``content`` is the file as a buffer, ``digests`` what ``hash_blocks`` gave for it."""
        self._content = memoryview(content)
        self._digests = digests
        self._name = name
        self._whole = np.zeros(len(digests) // DIGEST_BYTES, dtype=bool)

    def check(self, first: int, last: int) -> None:
        """See that the bytes from ``first`` to ``last`` - 1 are as they were written.

        Raises:
            DamagedFileError: they are not.
        """
        self._check(np.arange(first // BLOCK_BYTES, -(-last // BLOCK_BYTES)))

    def check_rows(self, rows: NDArray[np.int64], *, start: int, row_bytes: int) -> bool:
        """See that rows of ``row_bytes`` each, the first at byte ``start``, are as they were written.

        Returns:
            Whether every block of the file is known to be whole by now.

        Raises:
            DamagedFileError: they are not.
        """
        first = start + rows * row_bytes
        last = (first + row_bytes - 1) // BLOCK_BYTES
        reach = np.arange((row_bytes - 1) // BLOCK_BYTES + 2)
        self._check(np.unique(np.minimum(first[:, None] // BLOCK_BYTES + reach, last[:, None])))
        return bool(self._whole.all())

    def _check(self, blocks: NDArray[np.int64]) -> None:
        unknown = blocks[~self._whole[blocks]].tolist()
        if len(unknown) < _MANY:
            found = [self._is_whole(block) for block in unknown]
        else:  # hashing lets go of the interpreter
            with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
                found = list(pool.map(self._is_whole, unknown))
        for block, is_whole in zip(unknown, found, strict=True):
            if not is_whole:
                raise DamagedFileError(f"the contents of {self._name} have changed, from byte {block * BLOCK_BYTES} on")
        self._whole[unknown] = True

    def _is_whole(self, block: int) -> bool:
        content = self._content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
        stated = self._digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
        return hashlib.sha256(content).digest() == stated


class CheckedMap(np.memmap):  # type: ignore[type-arg]
    """uint8 images ``[N, ...]`` of an ``.npy`` file; ``check_rows`` before they are used.  Slices are plain maps."""

    check_rows: Callable[[NDArray[np.int64]], None] | None = None
    """Raises where rows are damaged; None once every block is known to be whole."""


def map_checked(path: Path, digests: bytes, *, on_damage: Callable[[DamagedFileError], Exception]) -> CheckedMap:
    """Open an ``.npy`` file, of which nothing has been read yet.

    Args:
        path: The file.
        digests: What ``hash_blocks`` gave for it.
        on_damage: Gives the error to raise where rows that are asked for turn out to be damaged.

    Raises:
        DamagedFileError: its header is damaged.
    """
    # Mode "c" (copy on write) because torch warns about arrays that it may not write to; nothing ever does.
    whole = np.memmap(path, dtype=np.uint8, mode="c")
    blocks = Blocks(whole, digests, name=path.name)
    blocks.check(0, min(len(whole), BLOCK_BYTES))
    images = np.load(path, mmap_mode="c").view(CheckedMap)
    start, row_bytes = images.offset, images[:1].nbytes

    def check_rows(rows: NDArray[np.int64]) -> None:
        try:
            if blocks.check_rows(rows, start=start, row_bytes=row_bytes):
                images.check_rows = None
        except DamagedFileError as error:
            raise on_damage(error) from error

    images.check_rows = check_rows
    return images
