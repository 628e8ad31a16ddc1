"""Decoded images on disk: written in parallel straight into a memory map, opened again in milliseconds.

A folder holds ``images.npy`` ``[N, S, S, C]`` uint8, where needed ``margin.npy`` (the same images, larger),
``labels.npy``, and ``about.json`` with classes, file names, splits and what could not be read.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.config.errors import RequestError
from runner.config.schema import DataConfig
from runner.data.decode import BadImageError, fit, strict_decoding
from runner.data.images import Decoded, ImageSet

log = logging.getLogger(__name__)

# A crop of 224 pixels is usually cut from 256, and so in proportion for other sizes.
MARGIN = 8 / 7

TASK = 64
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What each row of the store will hold."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...] | None
    splits: dict[str, tuple[int, int]]
    """``train`` and where they exist ``val`` and ``test``: first row and the row after the last."""


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The shape to which images are brought."""

    size: int | None
    """Height and width; None keeps the size of the files, which must then agree."""
    margin: int | None
    """Height and width of a second, larger copy for random resized crops; None for no copy."""
    channels: int


def pixel_format(config: DataConfig, *, channels: int) -> PixelFormat:
    """Read the format off ``config``; ``channels`` is what to store where it leaves the choice open."""
    wants_margin = config.augment.random_resized_crop and config.image_size is not None
    margin = round(config.image_size * MARGIN) if wants_margin and config.image_size else None
    return PixelFormat(size=config.image_size, margin=margin, channels=config.channels or channels)


def write_store(
    folder: Path, layout: Layout, read: Callable[[int], Image.Image], form: PixelFormat, *, skip_bad: bool
) -> None:
    """Decode every image into ``folder``, in all cores, holding only a few images in memory at a time.

    Args:
        folder: Empty folder.
        layout: What each row is.
        read: Gives the image of a row; called from several threads; raises BadImageError.
        form: Size and channels to store.
        skip_bad: Leave unreadable images out and note them, instead of refusing the first.

    Raises:
        RequestError: An unreadable image under ``skip_bad=False``, images of different sizes where ``form.size`` is
            None, or no readable image at all.
        OSError: The folder cannot be written or is full.
    """
    count = len(layout.labels)
    name = layout.names.__getitem__ if layout.names else str
    with strict_decoding():
        size = form.size or _common_size(read, count, name, skip_bad=skip_bad)
        images = _allocate(folder / "images.npy", (count, size, size, form.channels))
        margin = (
            _allocate(folder / "margin.npy", (count, form.margin, form.margin, form.channels)) if form.margin else None
        )

        def decode(start: int) -> list[tuple[int, str]]:
            bad = []
            for row in range(start, min(start + TASK, count)):
                try:
                    image = read(row)
                except BadImageError as error:
                    bad.append((row, str(error)))
                    continue
                if form.size is None and image.size != (size, size):
                    raise _unequal(name(row), image, size)
                images[row] = fit(image, size=form.size, channels=form.channels)
                if margin is not None:
                    margin[row] = fit(image, size=form.margin, channels=form.channels)
            return bad

        skipped = _run(decode, count, name, skip_bad=skip_bad)
    for array in (images, margin):
        if array is not None:
            array.flush()
    np.save(folder / "labels.npy", layout.labels)
    about = {
        "classes": layout.classes,
        "names": layout.names,
        "splits": layout.splits,
        "skipped": skipped,
    }
    (folder / "about.json").write_text(json.dumps(about))


def read_store(folder: Path, *, fingerprint: str, origin: str, skip_bad: bool) -> Decoded:
    """Open what :func:`write_store` wrote.

    Raises:
        RequestError: The store was made without unreadable files, and ``skip_bad`` is False.
    """
    about = json.loads((folder / "about.json").read_bytes())
    names, skipped = about["names"], dict(about["skipped"])
    if skipped and not skip_bad:
        row, reason = next(iter(skipped.items()))
        raise bad_file(names[row] if names else str(row), reason, count=len(skipped))
    # Mode "c" (copy on write) because torch warns about arrays that it may not write to; nothing ever does.
    images = np.load(folder / "images.npy", mmap_mode="c")
    margin = np.load(folder / "margin.npy", mmap_mode="c") if (folder / "margin.npy").exists() else None
    labels = np.load(folder / "labels.npy")

    def split(name: str) -> ImageSet | None:
        if name not in about["splits"]:
            return None
        first, last = about["splits"][name]
        rows = np.array([row for row in range(first, last) if row not in skipped], dtype=np.int64)
        own_names = tuple(names[row] for row in rows) if names else None
        return ImageSet(images=images, labels=labels[rows], rows=rows, names=own_names)

    train = split("train")
    assert train is not None  # every layout has one
    return Decoded(
        train=train,
        val=split("val"),
        test=split("test"),
        classes=tuple(about["classes"]),
        fingerprint=fingerprint,
        origin=origin,
        skipped=tuple(names[row] if names else str(row) for row in skipped),
        margin=margin,
    )


def bad_file(name: str, reason: str, *, count: int = 1) -> RequestError:
    """Word the refusal of an unreadable file; ``count`` is how many there are in all."""
    more = f", one of {count}" if count > 1 else ""
    return RequestError(
        "data.root",
        f"{name} (cannot be decoded: {reason}{more})",
        "readable images; data.on_bad_file=skip leaves such files out",
    )


def _run(
    decode: Callable[[int], list[tuple[int, str]]], count: int, name: Callable[[int], str], *, skip_bad: bool
) -> list[tuple[int, str]]:
    """Call ``decode`` for each task's first row; the unreadable rows with their reasons, in order."""
    started = reported = time.monotonic()
    skipped: list[tuple[int, str]] = []
    workers = _cores()
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
    log.info("decoded %d images in %.1f s; %d left out", count, time.monotonic() - started, len(skipped))
    return skipped


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _common_size(read: Callable[[int], Image.Image], count: int, name: Callable[[int], str], *, skip_bad: bool) -> int:
    """Find the height and width of the first readable image, to which the others must keep."""
    for row in range(count):
        try:
            image = read(row)
        except BadImageError as error:
            if skip_bad:
                continue
            raise bad_file(name(row), str(error)) from error
        if image.width != image.height:
            raise RequestError(
                "data.image_size",
                f"null with {name(row)} of {image.width} x {image.height} pixels",
                "a size in pixels, such as 224, where images are not square",
            )
        return image.width
    raise RequestError("data.root", f"{count} files of which none can be decoded", "readable images")


def _unequal(name: str, image: Image.Image, size: int) -> RequestError:
    return RequestError(
        "data.image_size",
        f"null with {name} of {image.width} x {image.height} pixels among others of {size} x {size}",
        "a size in pixels, such as 224, where images differ in size",
    )


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """Make an array on disk and reserve its room: writing to a map on a full disk would kill the process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate") and array.size:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
