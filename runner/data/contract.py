"""The contract of a data source: its result is checked, converted where that is unambiguous, or refused.

``docs/data.md`` states it for people.  The shipped sources meet it as they are, and nothing of theirs is read for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from runner.config.words.pluralize import pluralize
from runner.data.images import Decoded, ImageSet, LazyPixels
from runner.errors import RequestError, nearest

IMAGES = "square images [N, H, W, C] (tensors [N, C, H, W]): uint8, whole numbers from 0 to 255, or floats from 0 to 1"
LABELS = "a class number from 0 to K - 1, or a name of Decoded.classes, for each example: [n], [n, 1] or one-hot [n, K]"

_CHUNK_BYTES = 2**24
_LOOKED_AT = 256
"""Images of a source of bytes that are looked at for being nearly black."""
_DARK = 32
"""Pixels that end below this are most often of another range than 0 to 255, as scikit-learn's digits to 16 are."""

Refuse = Callable[[str, str], NoReturn]


def keep_contract(decoded: Decoded, *, target: str) -> Decoded:
    """``decoded`` with uint8 pixels and int64 labels, as everything after it takes them.

    Args:
        decoded: What the source ``target`` returned.
        target: Its import path, for messages.

    Raises:
        RequestError: Something of it cannot be read in one way alone; names the split and what is allowed.
    """

    def refuse(got: str, expected: str) -> NoReturn:
        raise RequestError("data._target_", f"{got} from {target}", expected)

    decoded = replace(decoded, classes=_classes(decoded.classes, refuse))
    if not isinstance(decoded.fingerprint, str) or not decoded.fingerprint:
        refuse(f"the fingerprint {decoded.fingerprint!r}", "a hash of the contents as text, such as SHA-256")
    given = {"train": decoded.train, "val": decoded.val, "test": decoded.test}
    for name, split in given.items():
        if not isinstance(split, ImageSet) and (split is not None or name == "train"):
            refuse(
                f"{name} of the type {type(split).__name__}", "an ImageSet" + ("" if name == "train" else " or None")
            )
    splits = {name: split for name, split in given.items() if split is not None}
    held: dict[str, Any] = {name: split.images for name, split in splits.items()}
    if decoded.margin is not None:
        held["margin"] = decoded.margin
    pixels, notes = _pixels(held, refuse)
    kept = {
        name: _split(replace(split, images=pixels[name]), name, decoded.classes, refuse)
        for name, split in splits.items()
    }
    if not len(kept["train"]):
        refuse("no training examples", "a training split with examples")
    return replace(
        decoded,
        train=kept["train"],
        val=kept.get("val"),
        test=kept.get("test"),
        margin=pixels.get("margin"),
        notes=(*decoded.notes, *notes),
    )


def _classes(classes: Any, refuse: Refuse) -> tuple[str, ...]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        refuse(f"classes of the type {type(classes).__name__}", "a tuple with the name of each class")
    names = tuple(str(name) for name in classes)
    if len(names) < 2:
        refuse(pluralize(len(names), "class"), "two or more classes")
    if len(set(names)) < len(names):
        refuse(f"the class {next(name for name in names if names.count(name) > 1)} twice", "different names of classes")
    return names


# Images


def _pixels(held: dict[str, Any], refuse: Refuse) -> tuple[dict[str, Any], list[str]]:
    """The images of each split as bytes, and what to say of them; one array that splits share stays one."""
    done: dict[int, Any] = {}
    scales: dict[str, str] = {}
    notes: dict[str, None] = {}
    for name, images in held.items():
        if id(images) in done:
            continue
        if not isinstance(images, np.ndarray) and not _is_tensor(images) and _is_undecoded(images):
            done[id(images)] = images
            continue
        array = _as_array(images, name, refuse)
        if array.dtype == np.uint8:
            done[id(images)] = array
            if not isinstance(array, np.memmap) and 0 < (high := array[:_LOOKED_AT].max(initial=0)) < _DARK:
                notes[_nearly_black(name, high)] = None
            continue
        done[id(images)], scale, note = _as_bytes(array, name, refuse)
        if scale is not None:
            scales[name] = scale
        if note is not None:
            notes[note] = None
    if len(set(scales.values())) > 1:
        refuse(
            "images that do not agree: " + ", ".join(f"{name} ends at {scale}" for name, scale in scales.items()),
            "one range for all splits, 0 to 255 or 0 to 1",
        )
    return {name: done[id(images)] for name, images in held.items()}, list(notes)


def _is_tensor(value: Any) -> bool:
    torch: Any = sys.modules.get("torch")  # not imported for who has none
    return torch is not None and isinstance(value, torch.Tensor)


def _is_undecoded(value: Any) -> bool:
    return callable(getattr(value, LazyPixels.decode.__name__, None)) and hasattr(value, "shape")


def _plain_array(value: Any) -> NDArray[Any] | None:
    """An array or a tensor as a numpy array; None for anything else."""
    if _is_tensor(value):
        value = value.detach().cpu().to_dense()
        # numpy knows no bfloat16, and float32 holds all of its values
        return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if isinstance(value, np.ndarray):
        return value
    # columns of tables, and arrays of other libraries
    return np.asarray(value) if hasattr(value, "__array__") and not isinstance(value, np.generic) else None


def _as_array(images: Any, name: str, refuse: Refuse) -> NDArray[Any]:
    """``[N, H, W, C]``, of any type of number."""
    array = _plain_array(images)
    if array is None:
        refuse(f"{name}.images of the type {type(images).__name__}", f"an array: {IMAGES}")
    shape = list(array.shape)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            refuse(f"{name}.images with masked pixels", IMAGES)
        array = array.data
    if _is_tensor(images) and array.ndim == 4:
        array = np.moveaxis(array, 1, -1)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[1] != array.shape[2] or not all(array.shape):
        other = f"; channels come {'first' if _is_tensor(images) else 'last'} here" if array.ndim == 4 else ""
        refuse(f"{name}.images of the shape {shape}{other}", IMAGES)
    if array.dtype.kind not in "buif":
        refuse(f"{name}.images of the type {array.dtype}", IMAGES)
    # torch takes neither backward steps nor, without a warning, memory that may not be written
    if any(step < 0 for step in array.strides) or not (array.flags.writeable or isinstance(array, np.memmap)):
        array = array.copy()
    return array


def _as_bytes(array: NDArray[Any], name: str, refuse: Refuse) -> tuple[NDArray[np.uint8], str | None, str | None]:
    """Pixels from 0 to 255, the end of the range that they were taken to have (None for any), and what to say."""
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255), None, None
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        refuse(f"{name}.images with pixels that are not finite (NaN or infinite)", IMAGES)
    if low < 0 or high > 255:
        refuse(f"{name}.images of {array.dtype} from {low:.6g} to {high:.6g}", IMAGES)
    if array.dtype.kind in "ui":
        return array.astype(np.uint8), "255", _nearly_black(name, high) if 0 < high < _DARK else None
    factor = 255.0 if high <= 1 else 1.0
    pixels = np.empty(array.shape, dtype=np.uint8)
    rounded = False
    # Data that were bytes once come back to the bit: what is left of a division by 255 is far below this.
    close = 1e-3 if array.dtype != np.float16 else 0.13
    step = max(1, _CHUNK_BYTES // (8 * array[0].size))
    for start in range(0, len(array), step):
        exact = array[start : start + step].astype(np.float64) * factor
        nearest_byte = np.rint(exact)
        rounded = rounded or bool(np.any(np.abs(exact - nearest_byte) > close))
        pixels[start : start + step] = nearest_byte
    if rounded and 1 < high < _DARK:
        refuse(f"{name}.images of {array.dtype} from {low:.6g} to {high:.6g}, which may be of either range", IMAGES)
    note = f"{name} images of {array.dtype} are rounded to 8 bits" if rounded else None
    if factor == 1 and high < _DARK:
        note = _nearly_black(name, high)
    # all black says nothing
    return pixels, None if high == 0 else "1" if factor == 255 else "255", note


def _nearly_black(name: str, high: Any) -> str:
    ends = f"{name} images are whole numbers that end at {high:g} of 255"
    return f"{ends}, so nearly black: floats from 0 to 1 would be scaled"


# Labels


def _split(split: ImageSet, name: str, classes: Sequence[str], refuse: Refuse) -> ImageSet:
    count = split.images.shape[0]
    labels = _labels(split.labels, name, classes, refuse)
    rows = _rows(split.rows, name, count, refuse)
    names = None if split.names is None else tuple(str(file) for file in split.names)
    if len(labels) != len(rows):
        refuse(f"{len(labels):,} labels and {len(rows):,} rows in {name}", "one of each for every example")
    if names is not None and len(names) != len(rows):
        refuse(f"{len(names):,} names and {len(rows):,} rows in {name}", "one of each for every example, or names=None")
    return replace(split, labels=labels, rows=rows, names=names)


def _rows(given: Any, name: str, count: int, refuse: Refuse) -> NDArray[np.int64]:
    rows = _listed(given)
    expected = f"{name}.rows: whole numbers [n], each a row of the images, from 0 to {count - 1}"
    if rows is None or rows.ndim != 1 or (rows.dtype.kind not in "ui" and rows.size):
        refuse(f"{name}.rows of {_kind(given)}", expected)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        refuse(f"the row {rows.max() if rows.max() >= count else rows.min()} in {name} of {count} images", expected)
    return rows.astype(np.int64)


def _labels(given: Any, name: str, classes: Sequence[str], refuse: Refuse) -> NDArray[np.int64]:
    labels = _listed(given)
    if labels is None:
        refuse(f"{name}.labels of {_kind(given)}", LABELS)
    if isinstance(labels, np.ma.MaskedArray):
        if np.ma.is_masked(labels):
            first = int(np.flatnonzero(np.ma.getmaskarray(labels).reshape(len(labels), -1).any(axis=1))[0])
            refuse(f"a masked label at example {first} of {name}", LABELS)
        labels = labels.data
    if labels.dtype.kind == "O":
        labels = _uniform_array(labels)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] == len(classes) and labels.dtype.kind in "buif":
        labels = _from_one_hot(labels, name, refuse)
    if labels.ndim != 1:
        refuse(f"{name}.labels of the shape {list(labels.shape)} for {pluralize(len(classes), 'class')}", LABELS)
    if not labels.size:
        return np.zeros(0, dtype=np.int64)
    if labels.dtype.kind == "U":
        return _from_names(labels, name, classes, refuse)
    if labels.dtype.kind not in "buif":
        refuse(f"{name}.labels of {_kind(given)}", LABELS)
    if labels.dtype.kind == "f" and (odd := ~np.isfinite(labels) | (np.floor(labels) != labels)).any():
        _refuse_label(labels, odd, name, classes, refuse)
    # compared before they are converted: a uint64 or a float may be beyond int64
    numbers: NDArray[Any] = labels
    if (odd := (numbers < 0) | (numbers >= len(classes))).any():
        _refuse_label(labels, odd, name, classes, refuse)
    return labels.astype(np.int64)


def _refuse_label(
    labels: NDArray[Any], odd: NDArray[np.bool_], name: str, classes: Sequence[str], refuse: Refuse
) -> NoReturn:
    first = int(np.flatnonzero(odd)[0])
    refuse(
        f"the label {labels[first].item()!r} at example {first} of {name}",
        f"{LABELS}; K is {len(classes)}, the length of Decoded.classes",
    )


def _from_one_hot(table: NDArray[Any], name: str, refuse: Refuse) -> NDArray[np.int64]:
    numbers = table.astype(np.float64)
    odd = ~(((numbers == 0) | (numbers == 1)).all(axis=1) & (numbers.sum(axis=1) == 1))
    if odd.any():
        refuse(f"no single 1 among zeros in the label of example {int(np.flatnonzero(odd)[0])} of {name}", LABELS)
    return numbers.argmax(axis=1)


def _from_names(labels: NDArray[Any], name: str, classes: Sequence[str], refuse: Refuse) -> NDArray[np.int64]:
    number = {known: i for i, known in enumerate(classes)}
    found, back = np.unique(labels, return_inverse=True)
    for label in found.tolist():
        if label not in number:
            meant = nearest(label, classes)
            first = int(np.flatnonzero(labels == label)[0])
            refuse(
                f"the label {label!r} at example {first} of {name}",
                f"one of Decoded.classes ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
                + (f"; did you mean {meant}?" if meant else ""),
            )
    return np.array([number[label] for label in found.tolist()], dtype=np.int64)[back.reshape(-1)]


def _listed(value: Any) -> NDArray[Any] | None:
    """Arrays and tensors as they are, lists and tuples of values as an array; None for anything else."""
    array = _plain_array(value)
    if array is None and isinstance(value, list | tuple):
        try:
            array = np.asarray([_one(item) for item in value])
        except ValueError:  # of several lengths
            return None
    return None if array is None or array.ndim == 0 else array


def _one(item: Any) -> Any:
    return item if (array := _plain_array(item)) is None else array


def _uniform_array(labels: NDArray[Any]) -> NDArray[Any]:
    """An array of objects as one of text or numbers, where all of them are the same; else as it is."""
    items = labels.reshape(-1).tolist()
    if all(isinstance(item, str) for item in items) or all(isinstance(item, int | float | np.number) for item in items):
        return np.array(items).reshape(labels.shape)
    return labels


def _kind(value: Any) -> str:
    array = _plain_array(value)
    return f"the type {type(value).__name__}" if array is None else f"the type {array.dtype}, {list(array.shape)}"
