"""A decoded data set: uint8 pixels, labels, and the rows of each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import DataConfig, Interpolation
from runner.data.cache.checked_map import CheckedMap
from runner.data.image_sketch import Sketch
from runner.errors import RequestError


class LazyPixels(Protocol):
    """Images that are decoded each time that they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, H, W, C)``."""
        ...

    def decode(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Put the pixels of ``rows`` into ``out`` ``[b, H, W, C]``; may be called from several threads.

        Raises:
            RunError: A file cannot be decoded; names it.
        """
        ...


Pixels = NDArray[np.uint8] | LazyPixels


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One split: a selection of rows from an array of images that several splits may share."""

    images: Pixels
    """Pixels ``[N, H, W, C]`` in 0..255, often a memory map far larger than memory, or not decoded yet."""
    labels: NDArray[np.int64]
    """Class of each example of this split, ``[n]``."""
    rows: NDArray[np.int64]
    """Row of ``images`` that holds each example of this split, ``[n]``."""
    names: tuple[str, ...] | None
    """File name of each example, relative to the data's root, or None where images do not come from files."""

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels ``[b, H, W, C]`` of the examples at ``positions``, decoded here and now where they have to be.

        Raises:
            RunError: A file cannot be decoded, or the cache is damaged; names it.
        """
        rows = self.rows[positions]
        if isinstance(self.images, CheckedMap) and self.images.check_rows is not None:
            self.images.check_rows(rows)
        if isinstance(self.images, np.ndarray):
            return self.images[rows]
        found = np.empty((len(rows), *self.images.shape[1:]), dtype=np.uint8)
        self.images.decode(rows, found)
        return found

    def take(self, positions: NDArray[np.int64]) -> ImageSet:
        """Make a split of the examples at ``positions`` (0..n-1), over the same pixels."""
        return ImageSet(
            images=self.images,
            labels=self.labels[positions],
            rows=self.rows[positions],
            names=None if self.names is None else tuple(self.names[i] for i in positions),
        )


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out."""

    file: str
    """Relative to the data's root."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file} ({self.reason})"


@dataclass(frozen=True)
class Contents:
    """The files of a data set without their names: what a privacy ledger knows the data by."""

    name: str
    """SHA-256 (hex) of the digests of all files, in the order of the digests."""
    sketch: Sketch
    """What shows which other data sets hold some of them."""
    repeats: tuple[tuple[int, ...], ...] = ()
    """Places in the listing of files that are equal, byte by byte, two or more each."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """The keys of the data group about what is kept of images; by default nothing is written."""

    mode: str = "memory"
    """``data.cache``."""
    folder: str | None = None
    """``data.cache_dir``."""
    shared: bool = False
    """``data.cache_shared``."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a source returns: the splits that it brings with it, before anything is held out."""

    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    classes: tuple[str, ...]
    """Name of each class; a label is an index into it."""
    fingerprint: str
    """SHA-256 (hex) of the contents and of how they were decoded."""
    origin: str | None = None
    """SHA-256 (hex) of the contents alone, the same at every size and number of channels: what the privacy ledger knows
    the data by.  None takes ``fingerprint``."""
    contents: Contents | None = None
    """None where ``origin`` does not depend on names of files."""
    skipped: tuple[SkippedFile, ...] = ()
    """Files that could not be read and were left out."""
    places: Mapping[str, str] = field(default_factory=dict)
    """For people: the folder below the data's root of each split that has one."""
    notes: tuple[str, ...] = ()
    """What the user should know of what was left out and how the pixels were read, a line each."""
    repeats: tuple[tuple[str, ...], ...] = ()
    """Names of files that are equal, byte by byte, two or more each."""
    margin: Pixels | None = None
    """The images of ``train.images``, row by row, at a larger size ``[N, S, S, C]`` for random resized crops.

    Only the training split is read from it, so that validation and test see the same pixels with and without
    augmentation.  None where crops are cut from ``train.images`` itself.
    """


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """What a run sees: splits made, limits applied, constants of the normalisation at hand."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    mean: tuple[float, ...]
    """Per channel, in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, in [0, 1]."""
    channels: int
    image_size: int
    """Height and width that the model sees; ``train.images`` may be larger under random resized crops."""
    fingerprint: str
    """SHA-256 (hex) of contents, decoding, and of which examples stand in which split."""
    origin: str
    """``Decoded.origin``: the same for every split, limit and size."""
    skipped: tuple[SkippedFile, ...]
    contents: Contents | None = None
    """``Decoded.contents``."""
    notes: tuple[str, ...] = ()
    """``Decoded.notes``, and what else the user should know of the data."""
    interpolation: Interpolation = "bilinear"
    """How images were resized."""
    keeping: Keeping = Keeping()
    """Where what is made of the images may be kept."""
    size_of_model: bool = False
    """Whether ``image_size`` is the model's own, where ``data.image_size`` left it open."""
    val_held_out: bool = False
    """Whether ``val`` was cut from the training images of the source, which brings no split of its own."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """For people: where each split comes from, a folder or the training images; none where the source says nothing."""


def refuse_root(config: DataConfig) -> None:
    """For sources without files: a folder that is named and never read would look as if it had been.

    Raises:
        RequestError: ``data.root`` is set.
    """
    if config.root is not None:
        raise RequestError("data.root", config.root, f"null with data={config.name}, or data=image_folder to read it")
