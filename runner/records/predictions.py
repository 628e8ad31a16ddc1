"""``predictions.safetensors``: what a finished run answered to each image that it was evaluated on.

For each split a vector ``SPLIT.labels`` and one ``SPLIT.answers``, in the order of the split's images: class numbers,
in the smallest integers that hold them.  The answer is -1 where the loss of an image is not finite.  The header names
the run's identity and, for each split, a SHA-256 of which images these are (``images_digest``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from runner.disk.files import ordinary, write_bytes
from runner.disk.json_files import LARGEST_BYTES, parse_json
from runner.errors import RunError

PREDICTIONS_FILE = "predictions.safetensors"
NO_ANSWER = -1
"""Stands for an answer whose loss is not finite: it is no right one."""

_HEADER = "run"
"""The one entry of the header: several would be written in any order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The answers to the images of one split."""

    labels: NDArray[np.signedinteger]
    """Class of each image, [n]."""
    answers: NDArray[np.signedinteger]
    """Class that the run answered, [n], or ``NO_ANSWER``."""
    images: str
    """``images_digest`` of the split."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is right, [n]; the mean is the run's accuracy."""
        return self.labels == self.answers


def images_digest(origin: str, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> str:
    """SHA-256 (hex) of which images a split holds, in which order and with which labels, whatever size they have.

    Args:
        origin: SHA-256 of the contents of the data set, the same at every size.
        rows: number of each image within it.
        labels: of each image.
    """
    parts = (origin.encode(), rows.astype("<i8").tobytes(), labels.astype("<i8").tobytes())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def write_predictions(run_dir: Path, identity: str, splits: Mapping[str, Predictions]) -> None:
    """Write the predictions on ``splits``, by name, of the run of that ``identity``, atomically; no file for none.

    Raises:
        RunError: the file cannot be written; what stood there before is left.
    """
    if not splits:
        return
    tensors = {}
    for name, found in splits.items():
        tensors[f"{name}.labels"], tensors[f"{name}.answers"] = _smallest(found.labels), _smallest(found.answers)
    header = {"identity": identity, "images": {name: found.images for name, found in splits.items()}}
    try:
        write_bytes(run_dir / PREDICTIONS_FILE, save(tensors, {_HEADER: json.dumps(header)}))
    except OSError as error:
        raise RunError(f"{PREDICTIONS_FILE}: cannot be written ({error.strerror or error})") from error


def read_predictions(run_dir: Path, identity: str | None, split: str) -> Predictions | None:
    """What the run of that ``identity`` in ``run_dir`` answered on ``split``; None where it kept nothing of it.

    Raises:
        RunError: the file is damaged, or of another run.
    """
    path = run_dir / PREDICTIONS_FILE
    try:
        if ordinary(path).stat().st_size > LARGEST_BYTES:
            raise ValueError(f"more than {LARGEST_BYTES:,} bytes")
        with safe_open(path, framework="numpy") as file:
            about = parse_json((file.metadata() or {}).get(_HEADER, "").encode())
            if about["identity"] != identity:
                raise ValueError("it is of another run")
            if split not in about["images"]:
                return None
            labels, answers = file.get_tensor(f"{split}.labels"), file.get_tensor(f"{split}.answers")
            if labels.ndim != 1 or labels.shape != answers.shape or {labels.dtype.kind, answers.dtype.kind} != {"i"}:
                raise ValueError("no class numbers")
            return Predictions(labels=labels, answers=answers, images=str(about["images"][split]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"{run_dir.name}/{PREDICTIONS_FILE}: cannot be used: {error}") from error


def _smallest(classes: ArrayLike) -> NDArray[np.signedinteger]:
    """The same numbers in the smallest signed type that has room for all of them."""
    values = np.asarray(classes)
    return values.astype(np.min_scalar_type(-int(values.max(initial=0)) - 1))
