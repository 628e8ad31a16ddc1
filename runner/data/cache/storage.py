"""Storage of decoded images by ``data.cache``: on disk, in memory or not at all, with equal pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from runner.config.schema import DataConfig
from runner.data.cache.cache_policy import choose_cache
from runner.data.cache.folder_cache import Cache
from runner.data.cache.image_store import (
    PixelFormat,
    Read,
    StoreLayout,
    common_size,
    decode_all,
    read_store,
    write_store,
)
from runner.data.cache.lazy_images import decode_lazily
from runner.data.images import Decoded


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images that can be decoded."""

    layout: StoreLayout
    read: Read
    form: PixelFormat


def hold(
    config: DataConfig,
    cache: Cache,
    find_source: Callable[[], ImageSource],
    *,
    key: str,
    fingerprint: str,
    origin: str,
    confirm: Callable[[], None] = lambda: None,
) -> Decoded:
    """The data set of ``find_source``, held as ``config.cache`` says.

    Args:
        config: ``cache`` and ``on_bad_file``.
        cache: Where files of decoded images and notes lie.
        find_source: Called where the cache has no entry that is of use.
        key: Of the entry: a hash of contents and format.
        fingerprint: Of the data set.
        origin: Of its contents.
        confirm: Called after everything has been decoded; raises where the files have changed meanwhile.

    Raises:
        RequestError: see ``image_store.write_store``; the cache's folder cannot be written or is full.
    """
    decoded, used = _hold(config, cache, find_source, key=key, fingerprint=fingerprint, origin=origin, confirm=confirm)
    note = cache.note(used=used)
    return decoded if note is None else replace(decoded, notes=(*decoded.notes, note))


def _hold(
    config: DataConfig,
    cache: Cache,
    find_source: Callable[[], ImageSource],
    *,
    key: str,
    fingerprint: str,
    origin: str,
    confirm: Callable[[], None],
) -> tuple[Decoded, bool]:
    """The data set, and whether it came out of the cache."""
    skip_bad = config.on_bad_file == "skip"
    entry = None if config.cache == "off" else cache.find(key)
    if entry is None:
        source = find_source()
        layout, read, form = source.layout, source.read, source.form
        mode = choose_cache(
            config.cache, lambda: _needed(source, skip_bad=skip_bad), cache.root, unwritable=cache.unwritable
        )
        if mode == "off":
            undecoded = decode_lazily(
                layout, read, form, cache=cache, key=key, fingerprint=fingerprint, origin=origin, skip_bad=skip_bad
            )
            return undecoded, False
        if mode == "memory":
            arrays, bad, noted = decode_all(layout, read, form, allocate=_in_memory, skip_bad=skip_bad)
            confirm()
            return layout.decoded(arrays, dict(bad), fingerprint=fingerprint, origin=origin, noted=noted), False

        def fill(folder: Path) -> None:
            write_store(folder, layout, read, form, skip_bad=skip_bad)
            confirm()

        entry = cache.build(key, fill)
    stored = read_store(
        entry, fingerprint=fingerprint, origin=origin, skip_bad=skip_bad, in_memory=config.cache == "memory"
    )
    return stored, True


def _needed(source: ImageSource, *, skip_bad: bool) -> int:
    """Bytes of the decoded images."""
    form = source.form
    size = form.size or common_size(source.layout, source.read, skip_bad=skip_bad)
    return len(source.layout.labels) * form.channels * (size**2 + (form.margin or 0) ** 2)


def _in_memory(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, dtype=np.uint8)
