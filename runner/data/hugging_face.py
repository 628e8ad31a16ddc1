"""Image data sets in Hugging Face's format: from a folder that ``save_to_disk`` wrote, or by name from the hub."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import DataConfig
from runner.config.words.expand_user import expand_user
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
from runner.data.folders.content_hash import hash_files
from runner.data.folders.listing import list_files
from runner.data.folders.split_names import SPLITS, roles_of
from runner.data.images import Decoded
from runner.errors import RequestError, nearest

# Part of every fingerprint; a new number whenever decoding changes a pixel of ordinary images.
STORED_AS = "hugging face 1"

KEY = "data.dataset"
_MARKS = ("dataset_dict.json", "dataset_info.json")
"""One of them lies in a folder that ``save_to_disk`` wrote."""
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_USUAL_LABELS = ("label", "labels", "class", "target", "fine_label")


def load_hugging_face(
    config: DataConfig,
    *,
    dataset: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    splits: Mapping[str, str] | None = None,
    tell: Tell | None = None,
) -> Decoded:
    """Read a classification data set of the library ``datasets``, once; from then on, out of the cache.

    Args:
        config: The data group.
        dataset: A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote, or a name on the hub,
            ``owner/name``, which is downloaded into Hugging Face's own cache where it is not there yet.
        subset: Which of the hub's configurations of the data set; null where there is one.
        revision: Branch, tag or commit on the hub; null for its newest.
        image_column: Column of the images; null where there is one.
        label_column: Column of the class, a ``ClassLabel``, a whole number or a name; null where it has a usual name.
        splits: For ``train``, and optionally ``val`` and ``test``, the data set's own name of that split; null takes
            those with usual names.  A split that is not named is not used.
        tell: Called with the hash of the contents before they are decoded.

    Raises:
        RequestError: The library is not installed, there is no such data set, split or column, it cannot be reached,
            or an example of a split that is used has no label.
    """
    if not dataset:
        raise RequestError(KEY, "null", "a folder that save_to_disk wrote, or a name on the hub: owner/name")
    if splits is not None and ("train" not in splits or not set(splits) <= set(SPLITS)):
        raise RequestError("data.splits", ", ".join(splits) or "none", "train and optionally val and test")
    folder = Path(expand_user(dataset))
    parts: dict[str, Any] | None = None
    if folder.is_dir():
        if subset is not None or revision is not None:
            key, value = ("data.subset", subset) if subset is not None else ("data.revision", revision)
            raise RequestError(key, value, f"null: {dataset} is a folder, and only the hub has such")
        files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
        if not any((folder / mark).is_file() for mark in _MARKS):
            raise RequestError(
                KEY, f"{dataset} (no {' or '.join(_MARKS)})", "a folder that save_to_disk wrote; see data=image_folder"
            )
    elif not _HUB_NAME.fullmatch(dataset):
        raise RequestError(KEY, f"{dataset} (does not exist)", "a folder that save_to_disk wrote, or owner/name")
    else:
        parts = _from_hub(dataset, subset, revision)
        folder, files = _files_of(dataset, parts)
    cache = Cache(config.cache_dir, shared=config.cache_shared)
    listing = list_files(folder, below=files, wanted=lambda name: True)
    contents, without_names = hash_files(listing, cache, reader="hugging face")
    if tell is not None:
        tell(None, contents)
    request = (STORED_AS, contents, image_column, label_column, sorted((splits or {}).items()))
    asked = (*request, config.image_size, config.channels, *changed_reading(config))
    fingerprint = hashlib.sha256(repr(asked).encode()).hexdigest()
    form = pixel_format(config, channels=3)
    held = (fingerprint, form.margin, DECODING, *changed_limit(config))
    key = hashlib.sha256(" ".join(map(str, held)).encode()).hexdigest()

    def find_source() -> ImageSource:
        named = _named(_from_disk(dataset, folder) if parts is None else parts, splits)
        return _source(named, config, image_column, label_column)

    decoded = hold(config, cache, find_source, key=key, fingerprint=fingerprint, origin=contents)
    return replace(decoded, contents=without_names)


def _library() -> Any:
    try:
        # a second, and nothing of it is needed once the images have been decoded
        import datasets
    except ImportError as error:
        raise RequestError(
            "data", "hf", "the library datasets: pip install 'recipe-runner[hf]' (another data set needs none)"
        ) from error
    return datasets


def _from_disk(dataset: str, folder: Path) -> dict[str, Any]:
    library = _library()
    try:
        found = library.load_from_disk(str(folder))
    except Exception as error:  # of Arrow, of JSON, of the library: whatever damaged files are answered with
        raise RequestError(KEY, f"{dataset} ({_short(error)})", "a folder that save_to_disk wrote, whole") from error
    return dict(found) if isinstance(found, Mapping) else {"train": found}


def _from_hub(dataset: str, subset: str | None, revision: str | None) -> dict[str, Any]:
    library = _library()
    try:
        found = library.load_dataset(dataset, subset, revision=revision)
    except Exception as error:  # of the network, of the hub, of the library
        raise RequestError(
            KEY,
            f"{dataset} ({_short(error)})",
            "a folder that save_to_disk wrote, or a data set of the hub that can be reached",
        ) from error
    return dict(found)


def _files_of(dataset: str, parts: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """The Arrow files of a data set of the hub, and the folder that all lie in."""
    paths = sorted({file["filename"] for part in parts.values() for file in part.cache_files})
    if not paths:
        raise RequestError(KEY, f"{dataset} (its rows lie in no file)", "a data set that is stored, not streamed")
    folder = Path(os.path.commonpath([Path(path).parent for path in paths]))
    return folder, tuple(Path(path).relative_to(folder).as_posix() for path in paths)


def _named(parts: Mapping[str, Any], splits: Mapping[str, str] | None) -> dict[str, Any]:
    """Each of ``SPLITS`` that is there, in their order."""
    if splits is None:
        roles = roles_of(parts)
        splits = {role: name for name, role in roles.items()}
        if "train" not in splits or len(splits) < len(roles):
            raise RequestError(
                "data.splits", f"null (the data set has {', '.join(parts)})", "which split is train, val and test"
            )
    for role, name in splits.items():
        if name not in parts:
            raise RequestError(
                f"data.splits.{role}", name, f"one of {', '.join(parts)}", nearest=nearest(name, list(parts))
            )
    return {role: parts[splits[role]] for role in SPLITS if role in splits}


def _source(
    parts: Mapping[str, Any], config: DataConfig, image_column: str | None, label_column: str | None
) -> ImageSource:
    library = _library()
    first = parts["train"]
    images = [name for name, feature in first.features.items() if isinstance(feature, library.Image)]
    column = _column("data.image_column", image_column, images, "with images", first)
    usual = [name for name, feature in first.features.items() if isinstance(feature, library.ClassLabel)]
    usual = usual or [name for name in first.features if name in _USUAL_LABELS]
    label = _column("data.label_column", label_column, usual, "with classes", first)
    if column not in images:
        raise RequestError("data.image_column", column, f"a column with images: {', '.join(images) or 'there is none'}")
    for role, part in parts.items():
        if not {column, label} <= set(part.features):
            raise RequestError(f"data.splits.{role}", f"{', '.join(part.features)}", f"columns {column} and {label}")
    labels, classes = _labels({role: part[label] for role, part in parts.items()}, first.features[label], label)
    undecoded = {role: part.cast_column(column, library.Image(decode=False)) for role, part in parts.items()}
    ranges: dict[str, tuple[int, int]] = {}
    rows: list[tuple[Any, int]] = []
    for role, part in undecoded.items():
        ranges[role] = (len(rows), len(rows) + len(part))
        rows += [(part, position) for position in range(len(part))]
    layout = StoreLayout(labels=labels, classes=classes, names=None, splits=ranges)
    form = pixel_format(config, channels=3)
    shortest = None if form.size is None else max(form.size, form.margin or 0)
    reading = reading_of(config, channels=form.channels)

    def read(row: int) -> DecodedImage:
        part, position = rows[row]
        raw = _bytes(part[position][column])
        try:
            return read_image(raw, shortest=shortest, reading=reading)
        except NoRangeError as error:
            raise no_range(layout.name(row), error, reading) from error

    return ImageSource(layout=layout, read=read, form=form)


def _bytes(stored: Mapping[str, Any] | None) -> bytes:
    """The encoded image of a row."""
    if stored is None:
        raise BadImageError("there is no image")
    if stored["bytes"] is not None:
        return bytes(stored["bytes"])
    try:
        return Path(stored["path"]).read_bytes()
    except OSError as error:
        raise BadImageError(error.strerror or str(error)) from error


def _column(key: str, asked: str | None, found: Sequence[str], what: str, part: Any) -> str:
    names = list(part.features)
    if asked is not None:
        if asked not in names:
            raise RequestError(key, asked, f"one of {', '.join(names)}", nearest=nearest(asked, names))
        return asked
    if len(found) != 1:
        raise RequestError(key, f"null ({len(found)} columns {what} among {', '.join(names)})", "the name of one")
    return found[0]


def _labels(columns: Mapping[str, Any], feature: Any, column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class of each example of all splits, and the names: those of a ``ClassLabel``, or sorted, by number if whole."""
    values = {role: list(given) for role, given in columns.items()}
    names = getattr(feature, "names", None)
    for role, given in values.items():
        missing = sum(one is None or one == -1 for one in given)
        if missing:
            raise RequestError(
                f"data.splits.{role}",
                f"{missing} of {len(given)} examples without a {column}",
                "splits with labels; data.splits names those to use, such as {train: train, test: validation}",
            )
        if strange := [one for one in given if isinstance(one, bool) or not isinstance(one, int | str)]:
            raise RequestError(
                "data.label_column", f"{column} ({type(strange[0]).__name__})", "a ClassLabel, whole numbers or names"
            )
    every = [one for given in values.values() for one in given]
    if names is not None:
        return np.array(every, dtype=np.int64), tuple(names)
    distinct = sorted({str(one) for one in every}, key=_by_number)
    place = {name: number for number, name in enumerate(distinct)}
    return np.array([place[str(one)] for one in every], dtype=np.int64), tuple(distinct)


def _by_number(name: str) -> tuple[bool, int, str]:
    whole = name.removeprefix("-").isdecimal()
    return not whole, int(name) if whole else 0, name


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:199]}…"
