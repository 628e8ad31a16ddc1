"""Image files whose classes and splits are known: hashed, decoded once, and held as ``data.cache`` says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from runner.config.schema import DataConfig
from runner.data.cache.folder_cache import Cache
from runner.data.cache.image_store import StoreLayout, pixel_format
from runner.data.cache.listed_data import Tell
from runner.data.cache.storage import ImageSource, hold
from runner.data.decoding.bit_depth import NoRangeError
from runner.data.decoding.decode import read_image
from runner.data.decoding.pixels import (
    DECODING,
    BadImageError,
    DecodedImage,
    changed_limit,
    changed_reading,
    no_range,
    reading_of,
)
from runner.data.folders.content_hash import hash_files, read_listed
from runner.data.folders.listing import Listing
from runner.data.images import Decoded, SkippedFile
from runner.errors import RunError


def open_listed(
    config: DataConfig,
    listing: Listing,
    layout: StoreLayout,
    *,
    reader: str,
    stored_as: str,
    choices: tuple[Any, ...],
    places: Mapping[str, Any],
    again: Callable[[], Listing],
    tell: Tell | None,
) -> Decoded:
    """Decode the files of ``listing``, or open the entry of the cache that holds them.

    Args:
        config: The data group.
        listing: The files.
        layout: Row, class and split of each.
        reader: Name under which the hash of the files is remembered.
        stored_as: Part of the fingerprint, another one whenever decoding changes.
        choices: What was chosen beside the files, as far as it is not the usual way; part of the fingerprint.
        places: Which files are which split.
        again: Lists the files anew.
        tell: Called with the layout before a file is opened, and again with the contents' hash too.

    Raises:
        RequestError: Files cannot be decoded; ``data.image_size`` is null where sizes differ.
        RunError: A file changed while it was being read.
    """
    if tell is not None:
        tell(layout, None)
    form = pixel_format(config, channels=3)
    cache = Cache(config.cache_dir, shared=config.cache_shared)
    contents, without_names = hash_files(listing, cache, reader=reader)
    if tell is not None:
        tell(layout, contents)
    # The margin is left out of the identity: with and without augmentation, it is the same data.  Splits that follow
    # from names follow from the contents.  Defaults that came later than the runs known by this are left out too.
    identity = (stored_as, contents, form.size, form.channels, *choices, *changed_reading(config))
    fingerprint = hashlib.sha256(repr(identity).encode()).hexdigest()
    # Whoever stored it may have taken other files for the splits.
    held = (fingerprint, form.margin, places, layout.classes, DECODING, *changed_limit(config))
    key = hashlib.sha256(" ".join(map(str, held)).encode()).hexdigest()
    shortest = None if form.size is None else max(form.size, form.margin or 0)
    reading = reading_of(config, channels=form.channels)

    def read(row: int) -> DecodedImage:
        try:
            raw = read_listed(listing, layout.name(row))
        except OSError as error:
            raise BadImageError(error.strerror or str(error)) from error
        try:
            return read_image(raw, shortest=shortest, reading=reading)
        except NoRangeError as error:
            raise no_range(layout.name(row), error, reading) from error

    def confirm() -> None:
        if again() != listing:
            raise RunError(f"data.root: files below {listing.root} changed while they were being read")

    decoded = hold(
        config,
        cache,
        lambda: ImageSource(layout=layout, read=read, form=form),
        key=key,
        fingerprint=fingerprint,
        origin=contents,
        confirm=confirm,
    )
    return replace(
        decoded,
        contents=without_names,
        skipped=tuple(SkippedFile(*bad) for bad in listing.bad) + decoded.skipped,
        repeats=tuple(tuple(listing.files[place].path for place in same) for same in without_names.repeats),
    )
