"""Data sets of torchvision with a train and a test split, for classification; which one, its YAML says."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner.config.schema import DataConfig
from runner.config.words.expand_user import expand_user
from runner.data.cache.folder_cache import Cache
from runner.data.cache.image_store import StoreLayout, pixel_format
from runner.data.cache.listed_data import Tell
from runner.data.cache.storage import ImageSource, hold
from runner.data.decoding.bit_depth import NoRangeError, Stated
from runner.data.decoding.decode import guard_pillow
from runner.data.decoding.pixels import (
    DECODING,
    BadImageError,
    DecodedImage,
    changed_limit,
    changed_reading,
    eight_bit,
    no_range,
    reading_of,
)
from runner.data.folders.content_hash import hash_files
from runner.data.folders.listing import list_files
from runner.data.images import Decoded
from runner.errors import RequestError, nearest

STORED_AS = "torchvision 1"


def load_torchvision(
    config: DataConfig,
    *,
    dataset: str,
    files: Sequence[str],
    splits: Mapping[str, Mapping[str, Any]],
    download: bool = False,
    tell: Tell | None = None,
) -> Decoded:
    """Read a data set below ``data.root`` through its torchvision class, once; from then on, out of the cache.

    Args:
        config: ``root``, ``image_size`` (null: that of the files), ``channels`` (null: as stored), ``cache_dir``.
        dataset: Name of a class in ``torchvision.datasets`` whose items are (image, class number).
        files: Files and folders below ``root`` that make up the data set, as torchvision lays them out.
        splits: For ``train`` and optionally ``val`` and ``test``, the arguments that make the class give that split.
        download: Fetch missing files, which needs the network.
        tell: Called with the hash of the contents before they are decoded.

    Raises:
        RequestError: Files are missing or damaged and cannot be fetched, or there is no such data set.
    """
    if config.root is None:
        raise RequestError("data.root", "null", f"the folder that holds {' and '.join(files)}")
    if "train" not in splits or not set(splits) <= {"train", "val", "test"}:
        raise RequestError("data.splits", ", ".join(splits), "train and optionally val and test")
    root = Path(expand_user(config.root))
    missing = [name for name in files if not (root / name).exists()]
    opened: dict[str, Any] | None = None
    if missing:
        if not download:
            raise _absent(root, missing, dataset, files)
        opened = {
            split: _open(dataset, root, arguments, config, files, download=True) for split, arguments in splits.items()
        }
    listing = list_files(root, below=tuple(files), wanted=lambda name: True)
    cache = Cache(config.cache_dir, shared=config.cache_shared)
    contents, without_names = hash_files(listing, cache, reader=dataset)
    if tell is not None:
        tell(None, contents)
    request = (STORED_AS, dataset, {name: dict(splits[name]) for name in sorted(splits)}, contents)
    asked = (*request, config.image_size, config.channels, *changed_reading(config))
    fingerprint = hashlib.sha256(repr(asked).encode()).hexdigest()
    margin = pixel_format(config, channels=3).margin
    held = (fingerprint, margin, DECODING, *changed_limit(config))
    key = hashlib.sha256(" ".join(map(str, held)).encode()).hexdigest()

    def find_source() -> ImageSource:
        parts = opened or {
            split: _open(dataset, root, arguments, config, files, download=False) for split, arguments in splits.items()
        }
        return _source(parts, config)

    decoded = hold(config, cache, find_source, key=key, fingerprint=fingerprint, origin=contents)
    return replace(decoded, contents=without_names)


def _source(parts: Mapping[str, Any], config: DataConfig) -> ImageSource:
    items: list[tuple[Any, int]] = []
    ranges: dict[str, tuple[int, int]] = {}
    labels: list[int] = []
    for split, part in parts.items():
        ranges[split] = (len(labels), len(labels) + len(part))
        items += [(part, position) for position in range(len(part))]
        labels += [_labelled(part, split, position)[1] for position in range(len(part))]
    first = parts["train"]
    names = getattr(first, "classes", None) or [str(number) for number in range(max(labels) + 1)]
    layout = StoreLayout(
        labels=np.array(labels, dtype=np.int64), classes=tuple(str(name) for name in names), names=None, splits=ranges
    )

    form = pixel_format(config, channels=1 if _labelled(first, "train", 0)[0].mode == "L" else 3)
    reading = reading_of(config, channels=form.channels)

    def read(row: int) -> DecodedImage:
        try:
            return eight_bit(_item(*items[row])[0], reading, Stated())
        except NoRangeError as error:
            raise no_range(layout.name(row), error, reading) from error

    return ImageSource(layout=layout, read=read, form=form)


def _item(part: Any, position: int) -> tuple[Image.Image, int]:
    try:
        image, label = part[position]
        number = int(label)
    except Exception as error:  # whatever torchvision's classes answer damaged files with
        raise BadImageError(" ".join(str(error).split()) or type(error).__name__) from error
    if not isinstance(image, Image.Image):
        raise BadImageError(f"a {type(image).__name__}, which is no picture")
    return image, number


def _labelled(part: Any, split: str, position: int) -> tuple[Image.Image, int]:
    """An item of which the label is needed, so that it cannot be skipped."""
    try:
        return _item(part, position)
    except BadImageError as error:
        raise RequestError(
            "data.root", f"image {position} of {split} (cannot be decoded: {error})", "readable images"
        ) from error


def _open(
    dataset: str, root: Path, arguments: Mapping[str, Any], config: DataConfig, files: Sequence[str], *, download: bool
) -> Any:
    guard_pillow(config.max_pixels)
    # it imports torch and takes a second, and sets that have been converted do without
    from torchvision import datasets

    kind = getattr(datasets, dataset, None) if dataset in datasets.__all__ else None
    # what has no such argument is no data set, or reads whatever lies in a folder, and LSUN unpickles that
    if kind is None or "download" not in inspect.signature(kind).parameters:
        raise RequestError(
            "data.dataset", dataset, "a class of torchvision.datasets", nearest=nearest(dataset, datasets.__all__)
        )
    try:
        return kind(root=str(root), download=download, **arguments)
    except (OSError, RuntimeError) as error:
        # torchvision reports missing, damaged and unreachable files by RuntimeError or the network's OSError.
        raise RequestError(
            "data.root", f"{root} ({error})", f"the files of {dataset}, whole: {', '.join(files)}"
        ) from error


def _absent(root: Path, missing: Sequence[str], dataset: str, files: Sequence[str]) -> RequestError:
    return RequestError(
        "data.root",
        f"{root} (no {missing[0]})",
        f"the files of {dataset}: {', '.join(str(root / name) for name in files)}; data.download=true fetches them",
    )
