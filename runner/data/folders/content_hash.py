"""A hash of what a folder's files contain, without reading them again while nothing has touched them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from runner.data.cache.folder_cache import Cache
from runner.data.decoding.memory_budget import LARGE_FILE_BYTES, ROOM
from runner.data.folders.changed_files import keep_list
from runner.data.folders.listing import ListedFile, Listing
from runner.data.image_sketch import Sketch, sketch_of
from runner.data.images import Contents

# A file written twice within the clock tick of its file system shows one time for both contents, so a listing whose
# newest file is younger than this is not trusted yet (the coarsest common clock, FAT's, ticks every 2 s).
STABLE_NS = 2 * 10**9

TASK = 256


def hash_contents(listing: Listing, cache: Cache, *, reader: str) -> str:
    """SHA-256 (hex) over path and contents of every listed file; see ``hash_files``."""
    return hash_files(listing, cache, reader=reader)[0]


def hash_files(listing: Listing, cache: Cache, *, reader: str) -> tuple[str, Contents]:
    """SHA-256 (hex) over path and contents of every listed file, and what they contain whatever they are called.

    ``cache`` remembers it together with sizes and times of all files; while these stand, no file is opened.  Readers
    of different files below one root give different names as ``reader``, to be remembered apart.
    """
    seen = hashlib.sha256(repr((str(listing.root), listing.files)).encode("utf-8", "surrogateescape")).hexdigest()
    place = hashlib.sha256(repr((str(listing.root), reader)).encode("utf-8", "surrogateescape")).hexdigest()
    note_name = f"folder-{place[:32]}.json"
    note = cache.read_note(note_name)
    if note.get("seen") == seen:
        with contextlib.suppress(KeyError, ValueError):  # noted by an earlier version, or damaged
            repeats = tuple(tuple(map(int, places)) for places in json.loads(note["repeats"]))
            return note["contents"], Contents(str(note["name"]), Sketch.from_plain(json.loads(note["sketch"])), repeats)
    started_ns = time.time_ns()
    contents, without_names, digests = _read_and_hash(listing)
    newest = max((max(file.mtime_ns, file.ctime_ns) for file in listing.files), default=0)
    if newest < started_ns - STABLE_NS:
        sketch = json.dumps(without_names.sketch.as_plain())
        saved_note = {"seen": seen, "contents": contents, "name": without_names.name, "sketch": sketch}
        cache.write_note(note_name, saved_note | {"repeats": json.dumps(without_names.repeats)})
        keep_list(cache, contents, [file.path for file in listing.files], digests)
    return contents, without_names


def read_listed(listing: Listing, path: str) -> bytes:
    """Read one listed file, whole; large ones one at a time, within ``ROOM.one_image``.

    Raises:
        OSError: It cannot be read.
    """
    # Unbuffered and without pathlib, whose objects cost more than reading a small file.
    with open(f"{listing.root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
        ROOM.take_file(os.fstat(file.fileno()).st_size)
        return file.read()


def _read_and_hash(listing: Listing) -> tuple[str, Contents, list[bytes]]:
    def digests(start: int) -> list[bytes]:
        return [_hash_file(listing, file) for file in listing.files[start : start + TASK]]

    total = hashlib.sha256()
    every: list[bytes] = []
    starts = range(0, len(listing.files), TASK)
    with ThreadPoolExecutor() as pool:
        for start, part in zip(starts, pool.map(digests, starts), strict=True):
            for file, digest in zip(listing.files[start : start + TASK], part, strict=True):
                name = file.path.encode("utf-8", "surrogateescape")
                total.update(len(name).to_bytes(8, "little") + name + len(digest).to_bytes(1, "little") + digest)
            every += part
    known = [digest for digest in every if digest]
    name_of_all = hashlib.sha256(b"".join(sorted(known))).hexdigest()
    return total.hexdigest(), Contents(name_of_all, sketch_of(known), _repeats(every)), every


def _repeats(digests: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    """Places of equal digests, two or more each; an empty one equals nothing."""
    counts = Counter(digests)
    places: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        if digest and counts[digest] > 1:
            places.setdefault(digest, []).append(place)
    return tuple(map(tuple, places.values()))


def _hash_file(listing: Listing, file: ListedFile) -> bytes:
    """SHA-256 of one file; of nothing where it cannot be read, which decoding will report."""
    try:
        if file.size <= LARGE_FILE_BYTES:
            return hashlib.sha256(read_listed(listing, file.path)).digest()
        with (listing.root / file.path).open("rb") as large:
            return hashlib.file_digest(large, "sha256").digest()
    except OSError:
        return b""
