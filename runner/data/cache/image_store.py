"""Decoded images on disk: written in parallel straight into a memory map, opened again in milliseconds.

A folder holds ``images.npy`` ``[N, S, S, C]`` uint8, where needed ``margin.npy`` (the same images, larger),
``labels.npy``, and ``about.json`` with classes, file names, splits and what could not be read.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import DataConfig
from runner.data.cache.checked_map import CheckedMap
from runner.data.cache.folder_cache import CacheEntry
from runner.data.decoding.decode import fit, strict_decoding
from runner.data.decoding.memory_budget import ROOM
from runner.data.decoding.pixels import BILINEAR, NOTE, BadImageError, DecodedImage
from runner.data.images import Decoded, ImageSet, Pixels, SkippedFile
from runner.environment.container_limits import allowed_cores
from runner.errors import RequestError

log = logging.getLogger(__name__)

# A crop of 224 pixels is usually cut from 256, and so in proportion for other sizes.
MARGIN = 8 / 7

TASK = 64
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class StoreLayout:
    """What each row of the store will hold."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...] | None
    splits: dict[str, tuple[int, int]]
    """``train`` and where they exist ``val`` and ``test``: first row and the row after the last."""

    def name(self, row: int) -> str:
        """What errors call the image of ``row``."""
        return self.names[row] if self.names else str(row)

    def decoded(
        self,
        arrays: Mapping[str, Pixels],
        skipped: Mapping[int, str],
        *,
        fingerprint: str,
        origin: str,
        noted: Iterable[tuple[int, str]] = (),
    ) -> Decoded:
        """The data set whose pixels are in ``arrays`` (``images``, ``margin``), less the rows ``skipped`` (and why).

        ``noted`` is what is to be said of some rows.
        """

        def split(name: str) -> ImageSet | None:
            if name not in self.splits:
                return None
            first, last = self.splits[name]
            rows = np.array([row for row in range(first, last) if row not in skipped], dtype=np.int64)
            own_names = tuple(self.names[row] for row in rows) if self.names else None
            return ImageSet(images=arrays["images"], labels=self.labels[rows], rows=rows, names=own_names)

        train = split("train")
        assert train is not None  # every layout has one
        return Decoded(
            train=train,
            val=split("val"),
            test=split("test"),
            classes=self.classes,
            fingerprint=fingerprint,
            origin=origin,
            skipped=tuple(SkippedFile(self.name(row), reason) for row, reason in skipped.items()),
            margin=arrays.get("margin"),
            notes=self._notes(noted),
        )

    def _notes(self, noted: Iterable[tuple[int, str]]) -> tuple[str, ...]:
        rows: dict[str, list[int]] = {}
        for row, note in sorted(noted):
            rows.setdefault(note, []).append(row)
        return tuple(f"{note}: {len(found):,}, for example {self.name(found[0])}" for note, found in rows.items())


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The shape to which images are brought."""

    size: int | None
    """Height and width; None keeps the size of the files, which must then agree."""
    margin: int | None
    """Height and width of a second, larger copy for random resized crops; None for no copy."""
    channels: int
    interpolation: str = BILINEAR


def pixel_format(config: DataConfig, *, channels: int) -> PixelFormat:
    """Read the format off ``config``; ``channels`` is what to store where it leaves the choice open."""
    wants_margin = config.augment.random_resized_crop and config.image_size is not None
    margin = round(config.image_size * MARGIN) if wants_margin and config.image_size else None
    return PixelFormat(
        size=config.image_size,
        margin=margin,
        channels=config.channels or channels,
        interpolation=config.interpolation or BILINEAR,
    )


Read = Callable[[int], DecodedImage]
"""Gives the image of a row; called from several threads; raises BadImageError."""


def write_store(folder: Path, layout: StoreLayout, read: Read, form: PixelFormat, *, skip_bad: bool) -> None:
    """Decode every image into ``folder``, in all cores, holding only a few images in memory at a time.

    Args:
        folder: Empty folder.
        layout: What each row is.
        read: Gives the image of a row.
        form: Size and channels to store.
        skip_bad: Leave unreadable images out and note them, instead of refusing the first.

    Raises:
        RequestError: An unreadable image under ``skip_bad=False``, images of different sizes where ``form.size`` is
            None, or no readable image at all.
        OSError: The folder cannot be written or is full.
    """
    arrays, skipped, noted = decode_all(
        layout, read, form, allocate=lambda name, shape: allocate_map(folder / f"{name}.npy", shape), skip_bad=skip_bad
    )
    for array in arrays.values():
        array.flush()
    np.save(folder / "labels.npy", layout.labels)
    about = {
        "classes": layout.classes,
        "names": layout.names,
        "splits": layout.splits,
        "skipped": skipped,
        "noted": noted,
    }
    (folder / "about.json").write_text(json.dumps(about))


def decode_all(
    layout: StoreLayout,
    read: Read,
    form: PixelFormat,
    *,
    allocate: Callable[[str, tuple[int, ...]], Any],
    skip_bad: bool,
) -> tuple[dict[str, Any], list[tuple[int, str]], list[tuple[int, str]]]:
    """Decode every image, in all cores, into arrays that ``allocate`` makes by name and shape.

    Returns:
        ``images`` and with a margin ``margin``, the unreadable rows with their reasons, and the rows of which something
        is to be said.

    Raises:
        RequestError: see ``write_store``.
    """
    count = len(layout.labels)
    name = layout.name
    noted: list[tuple[int, str]] = []
    with strict_decoding():
        size = form.size or common_size(layout, read, skip_bad=skip_bad)
        arrays = {"images": allocate("images", (count, size, size, form.channels))}
        if form.margin:
            arrays["margin"] = allocate("margin", (count, form.margin, form.margin, form.channels))

        def decode(start: int) -> list[tuple[int, str]]:
            bad = []
            for row in range(start, min(start + TASK, count)):
                with ROOM.one_image():
                    try:
                        image = read(row)
                    except BadImageError as error:
                        bad.append((row, str(error)))
                        continue
                    if form.size is None and image.size != (size, size):
                        raise unequal(name(row), image, size)
                    for array in arrays.values():
                        array[row] = fit(
                            image, size=array.shape[1], channels=form.channels, interpolation=form.interpolation
                        )
                    if NOTE in image.info:
                        noted.append((row, image.info[NOTE]))
                    del image
            return bad

        skipped = _run(decode, count, name, skip_bad=skip_bad)
    return arrays, skipped, noted


def find_bad(layout: StoreLayout, read: Read) -> list[tuple[int, str]]:
    """Decode every image and keep none: the rows that cannot be read, with their reasons."""

    def decode(start: int) -> list[tuple[int, str]]:
        bad = []
        for row in range(start, min(start + TASK, len(layout.labels))):
            with ROOM.one_image():
                try:
                    read(row)
                except BadImageError as error:
                    bad.append((row, str(error)))
        return bad

    with strict_decoding():
        return _run(decode, len(layout.labels), layout.name, skip_bad=True)


def read_store(entry: CacheEntry, *, fingerprint: str, origin: str, skip_bad: bool, in_memory: bool = False) -> Decoded:
    """Open what :func:`write_store` wrote, as memory maps or ``in_memory``.

    Raises:
        RunError: Pixels are damaged, at once ``in_memory`` and otherwise when they are used.
        RequestError: The store was made without unreadable files, and ``skip_bad`` is False.
    """
    about = json.loads(entry.path("about.json").read_bytes())
    names, skipped = about["names"], dict(about["skipped"])
    if skipped and not skip_bad:
        row, reason = next(iter(skipped.items()))
        raise bad_file(names[row] if names else str(row), reason, count=len(skipped))
    layout = StoreLayout(
        labels=np.load(entry.path("labels.npy")),
        classes=tuple(about["classes"]),
        names=tuple(names) if names else None,
        splits={split: (first, last) for split, (first, last) in about["splits"].items()},
    )
    maps = {name: entry.map(f"{name}.npy") for name in ("images", "margin") if f"{name}.npy" in entry}
    arrays = {name: _whole(pixels) if in_memory else pixels for name, pixels in maps.items()}
    return layout.decoded(arrays, skipped, fingerprint=fingerprint, origin=origin, noted=map(tuple, about["noted"]))


def _whole(pixels: CheckedMap) -> NDArray[np.uint8]:
    """A copy in memory."""
    if pixels.check_rows is not None:
        pixels.check_rows(np.arange(len(pixels)))
    return np.array(pixels)


def bad_file(name: str, reason: str, *, count: int = 1, link: bool = False) -> RequestError:
    """Word the refusal of an unreadable file; ``count`` is how many there are in all.

    ``link`` says that it is one which ``data.follow_links`` would follow.
    """
    more = f", one of {count}" if count > 1 else ""
    return RequestError(
        "data.root",
        f"{name} (cannot be decoded: {reason}{more})",
        "readable images; data.on_bad_file=skip leaves such files out"
        + (", data.follow_links=true follows links" if link else ""),
    )


def _run(
    decode: Callable[[int], list[tuple[int, str]]], count: int, name: Callable[[int], str], *, skip_bad: bool
) -> list[tuple[int, str]]:
    """Call ``decode`` for each task's first row; the unreadable rows with their reasons, in order."""
    started = reported = time.monotonic()
    skipped: list[tuple[int, str]] = []
    workers = cores()
    # In waves, so that a million images do not make a million waiting tasks and a refusal comes early.
    wave = TASK * workers * 4
    log.info("decoding %d images", count)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, count, wave):
            for bad in pool.map(decode, range(first, min(first + wave, count), TASK)):
                if bad and not skip_bad:
                    row, reason = bad[0]
                    raise bad_file(name(row), reason)
                skipped += bad
            now = time.monotonic()
            if now - reported >= PROGRESS_SECONDS:
                done = min(first + wave, count)
                log.info("decoded %d of %d images, %.0f a second", done, count, done / (now - started))
                reported = now
    log.info("decoded %d of %d images in %.1f s", count - len(skipped), count, time.monotonic() - started)
    return skipped


def cores() -> int:
    """Cores that this process may use."""
    return allowed_cores()


def common_size(layout: StoreLayout, read: Read, *, skip_bad: bool) -> int:
    """Find the height and width of the first readable image, to which the others must keep.

    Raises:
        RequestError: It is not square, or no image can be read.
    """
    for row in range(len(layout.labels)):
        try:
            with ROOM.one_image():
                image = read(row)
        except BadImageError as error:
            if skip_bad:
                continue
            raise bad_file(layout.name(row), str(error)) from error
        if image.width != image.height:
            raise RequestError(
                "data.image_size",
                f"null with {layout.name(row)} of {image.width} x {image.height} pixels",
                "a size in pixels, such as 224, where images are not square",
            )
        return image.width
    raise RequestError("data.root", f"{len(layout.labels)} files of which none can be decoded", "readable images")


def unequal(name: str, image: DecodedImage, size: int) -> RequestError:
    """Word the refusal of an image of another size than the first one's ``size``."""
    return RequestError(
        "data.image_size",
        f"null with {name} of {image.width} x {image.height} pixels among others of {size} x {size}",
        "a size in pixels, such as 224, where images differ in size",
    )


def allocate_map(path: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.memmap[Any, Any]:
    """Make an array on disk and reserve its room: writing to a map on a full disk would kill the process."""
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate") and array.size:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
