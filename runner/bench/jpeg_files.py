"""JPEG files to read: small pictures, and photos made of them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.data.decoding.decode import open_image
from runner.errors import RequestError

SMALL = 32
PHOTO = (480, 384)
"""Width and height.  Three halves of 320 x 256, so that every way to resize them lands on whole pixels."""

_CLASSES = 4
_NOISE = 20.0  # gives files of the length of ImageNet's, 138 GB / 1,281,167 = 108 kB, or somewhat below
_QUALITY = 90


def write_small(folder: Path, count: int, *, images: Path | None) -> None:
    """Fill ``folder`` with ``count`` JPEG files of 32 x 32 pixels, in class folders.

    Args:
        folder: Is made.
        count: Files.
        images: Where to copy them from, any folders of JPEG files; None to make them up.

    Raises:
        RequestError: ``images`` holds fewer JPEG files of that size.
    """
    places = _places(folder, count)
    if images is None:
        for index, place in enumerate(places):
            _save(Image.fromarray(_made_up(index)), place)
        return
    found = list(itertools.islice(_jpegs(images), count))
    if len(found) < count:
        raise RequestError("--images", str(images), f"a folder with {count} JPEG files of {SMALL} x {SMALL} pixels")
    for source, place in zip(found, places, strict=True):
        shutil.copyfile(source, place)


def write_photos(folder: Path, count: int, *, small: Path) -> None:
    """Fill ``folder`` with ``count`` JPEG files of the size ``PHOTO``.

    Each is one of the pictures in ``small``, enlarged, under noise that makes a file as long for its pixels as a
    photo's, because that is what the time to decode it depends on.
    """
    sources: Sequence[Path] = sorted(small.rglob("*.jpg"))
    for index, place in enumerate(_places(folder, count)):
        with open_image(sources[index % len(sources)]) as source:
            large = np.asarray(source.convert("RGB").resize(PHOTO, Image.Resampling.BICUBIC), dtype=np.float32)
        noise = np.random.default_rng(index).normal(0, _NOISE, large.shape)
        _save(Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)), place)


def bytes_per_file(folder: Path) -> float:
    """Mean length of the files below ``folder``."""
    lengths = [path.stat().st_size for path in folder.rglob("*.jpg")]
    return sum(lengths) / len(lengths)


def _jpegs(images: Path) -> Iterator[Path]:
    """Files of the right size, spread over the folders: the first of each, then the second, ..."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(images.rglob("*.jpg")):
        folders.setdefault(path.parent, []).append(path)
    for turn in itertools.zip_longest(*folders.values()):
        for path in turn:
            if path is not None and _size(path) == (SMALL, SMALL):
                yield path


def _size(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        return image.size


def _places(folder: Path, count: int) -> list[Path]:
    for index in range(_CLASSES):
        (folder / f"class{index}").mkdir(parents=True, exist_ok=True)
    return [folder / f"class{index % _CLASSES}" / f"{index:06}.jpg" for index in range(count)]


def _made_up(index: int) -> NDArray[np.uint8]:
    """Noise of three coarsenesses, which JPEG compresses about as well as a picture of that size."""
    rng = np.random.default_rng(index)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((SMALL, SMALL)))
        for cells in (3, 8, 16)
    ]
    return np.mean(layers, axis=0).astype(np.uint8)


def _save(image: Image.Image, place: Path) -> None:
    image.save(place, "JPEG", quality=_QUALITY)
