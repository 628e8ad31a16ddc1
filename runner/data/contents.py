"""A hash of what a folder's files contain, without reading them again while nothing has touched them."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

from runner.data.cache import Cache
from runner.data.decoding_room import LARGE_FILE_BYTES, ROOM
from runner.data.listing import ListedFile, Listing

# A file written twice within the clock tick of its file system shows one time for both contents, so a listing whose
# newest file is younger than this is not trusted yet (the coarsest common clock, FAT's, ticks every 2 s).
SETTLED_NS = 2 * 10**9

TASK = 256


def hash_contents(listing: Listing, cache: Cache, *, reader: str) -> str:
    """SHA-256 (hex) over path and contents of every listed file.

    ``cache`` remembers it together with sizes and times of all files; while these stand, no file is opened.  Readers
    of different files below one root give different names as ``reader``, to be remembered apart.
    """
    seen = hashlib.sha256(repr((str(listing.root), listing.files)).encode("utf-8", "surrogateescape")).hexdigest()
    place = hashlib.sha256(repr((str(listing.root), reader)).encode("utf-8", "surrogateescape")).hexdigest()
    note_name = f"folder-{place[:32]}.json"
    note = cache.read_note(note_name)
    if note.get("seen") == seen and "contents" in note:
        return note["contents"]
    started_ns = time.time_ns()
    contents = _read_and_hash(listing)
    newest = max((max(file.mtime_ns, file.ctime_ns) for file in listing.files), default=0)
    if newest < started_ns - SETTLED_NS:
        cache.write_note(note_name, {"seen": seen, "contents": contents})
    return contents


def read_listed(listing: Listing, path: str) -> bytes:
    """Read one listed file, whole; large ones one at a time, within ``ROOM.one_image``.

    Raises:
        OSError: It cannot be read.
    """
    # Unbuffered and without pathlib, whose objects cost more than reading a small file.
    with open(f"{listing.root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
        ROOM.take_file(os.fstat(file.fileno()).st_size)
        return file.read()


def _read_and_hash(listing: Listing) -> str:
    def digests(start: int) -> list[bytes]:
        return [_hash_file(listing, file) for file in listing.files[start : start + TASK]]

    total = hashlib.sha256()
    starts = range(0, len(listing.files), TASK)
    with ThreadPoolExecutor() as pool:
        for start, part in zip(starts, pool.map(digests, starts), strict=True):
            for file, digest in zip(listing.files[start : start + TASK], part, strict=True):
                name = file.path.encode("utf-8", "surrogateescape")
                total.update(len(name).to_bytes(8, "little") + name + len(digest).to_bytes(1, "little") + digest)
    return total.hexdigest()


def _hash_file(listing: Listing, file: ListedFile) -> bytes:
    """SHA-256 of one file; of nothing where it cannot be read, which decoding will report."""
    try:
        if file.size <= LARGE_FILE_BYTES:
            return hashlib.sha256(read_listed(listing, file.path)).digest()
        with (listing.root / file.path).open("rb") as large:
            return hashlib.file_digest(large, "sha256").digest()
    except OSError:
        return b""
