"""Reading TIFF tags and samples that Pillow drops or cannot read, band by band."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from runner.config.words.pluralize import pluralize
from runner.data.decoding.bit_depth import Stated
from runner.data.decoding.memory_budget import ROOM

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Numbers of tags and what their values stand for: TIFF 6.0 (Adobe 1992); of the depth, Sadowski 1993.
SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, LEAST, MOST, PLANES, EXTRA, FORMAT, SIGNED_LEAST, SIGNED_MOST = (
    *(254, 258, 259, 262, 277, 280, 281, 284, 338, 339, 340, 341),
)
DEPTH = 32997
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3}
"""Bands that each photometric interpretation has by itself; what is beyond are extra samples."""
_ALPHA = (1, 2, 999)
"""Extra samples that are stated to be transparency (999: an old form of one program)."""
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions that are read band by band: none, LZW, deflate, PackBits, LZMA, Zstandard."""

_MOST_SAMPLE_BYTES = 16
"""Bytes of all samples of one pixel, at most, times the most pixels."""

_SEARCHED_PAGES = 8


class TiffError(Exception):
    """A TIFF whose samples cannot be had; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The stored values of one image."""

    values: NDArray[Any]
    """``[H, W, bands]``, upright."""
    stated: Stated
    alpha: bool
    """Whether the last band is stated to be transparency."""


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What the first page says of its samples."""

    bits: tuple[int, ...]
    photometric: int
    samples: int
    extra: tuple[int, ...]
    format: int
    """1 unsigned, 2 signed, 3 floating point."""
    least: tuple[float, ...]
    most: tuple[float, ...]
    signed_least: tuple[float, ...]
    signed_most: tuple[float, ...]
    planes: bool
    """Whether the bands lie one after the other, each a picture of its own."""
    depth: int
    """Pictures that the page holds one above the other, as those of a volume."""

    @property
    def dropped(self) -> int:
        """Bands that are neither colour nor stated to be transparency."""
        beyond = max(0, self.samples - _COLOURS.get(self.photometric, self.samples))
        return beyond - 1 if beyond and self.extra[:1] and self.extra[0] in _ALPHA else beyond

    @property
    def alpha(self) -> bool:
        """Whether the last band is the only one that is no colour, and stated to be transparency."""
        return self.extra[:1] != () and self.extra[0] in _ALPHA and self.dropped == 0

    @property
    def stated(self) -> Stated:
        """The range of the values."""
        low, high = (self.signed_least, self.signed_most) if self.signed_most else (self.least, self.most)
        return Stated(
            bits=max(self.bits),
            low=min(low) if low else None,
            high=max(high) if high else None,
            inverted=self.photometric == 0,
        )


def tags_of(image: TiffImagePlugin.TiffImageFile) -> Tags:
    """The tags of a TIFF that Pillow has opened."""
    return _tags(image.tag_v2.get)


def _tags(get: Any) -> Tags:
    def numbers(tag: int) -> tuple[float, ...]:
        found = get(tag)
        found = found if isinstance(found, tuple | list) else (found,)
        return tuple(value for value in found if isinstance(value, int | float))

    def whole(tag: int, default: int) -> int:
        found = numbers(tag)
        return int(found[0]) if found else default

    return Tags(
        bits=tuple(int(value) for value in numbers(BITS)) or (1,),
        photometric=whole(PHOTOMETRIC, 0),
        samples=whole(SAMPLES, 1),
        extra=tuple(int(value) for value in numbers(EXTRA)),
        format=whole(FORMAT, 1),
        least=numbers(LEAST),
        most=numbers(MOST),
        signed_least=numbers(SIGNED_LEAST),
        signed_most=numbers(SIGNED_MOST),
        planes=whole(PLANES, 1) == 2,
        depth=whole(DEPTH, 1),
    )


def has_more_pages(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether pages follow that are pictures of their own and no smaller copies or masks of the first."""
    for number in range(1, min(image.n_frames, _SEARCHED_PAGES)):
        image.seek(number)
        found = image.tag_v2.get(SUBFILE, 0)
        if not (isinstance(found, int) and found & 0b101):
            image.seek(0)
            return True
    if image.tell():
        image.seek(0)
    return False


def read_samples(raw: bytes, *, bands: int | None, max_pixels: int) -> Samples:
    """The samples of the first page, or of as many pages as there are ``bands``, each of which is then one.

    Args:
        raw: The whole file.
        bands: How many are wanted; None for those of the first page.
        max_pixels: Largest width times height.

    Raises:
        TiffError: They cannot be read.
    """
    if find_spec("tifffile") is None:
        raise TiffError("such a TIFF needs tifffile: pip install recipe-runner[tiff]")
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(io.BytesIO(raw)) as file:
            first: Any = file.pages[0]
            pages: list[Any] = [first]
            if bands is not None and bands > 1 and _samples(first) == 1 and len(file.pages) == bands:
                pages = [file.pages[number] for number in range(bands)]
            for page in pages:
                _check(page, max_pixels)
            ROOM.take(4 * sum(page.nbytes for page in pages))
            values = np.concatenate([_upright(page) for page in pages], axis=2)
            tags = _tags(lambda number: first.tags[number].value if number in first.tags else None)
    except TiffError:
        raise
    except Exception as error:  # whatever it answers damaged bytes with
        raise TiffError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
    if bands is not None and values.shape[2] != bands:
        raise TiffError(f"{pluralize(values.shape[2], 'band')} where data.channels={bands}")
    return Samples(values=values, stated=tags.stated, alpha=tags.alpha and len(pages) == 1)


def _samples(page: Any) -> int:
    return int(page.samplesperpixel)


def _check(page: Any, max_pixels: int) -> None:
    if page.imagedepth > 1 or page.dtype is None:
        what = (
            "voxels"
            if page.imagedepth > 1
            else f"samples of {page.bitspersample} bits in the format {page.sampleformat}"
        )
        raise TiffError(f"{what}, which cannot be read")
    if page.dtype.kind == "c":
        raise TiffError("complex numbers, which are no brightness")
    if int(page.compression) not in _LOSSLESS:
        bands = pluralize(_samples(page), "band")
        raise TiffError(f"{bands} compressed by {_called(page.compression)}, which cannot be read")
    if int(page.photometric) in (3, 6, 8):
        bands = pluralize(_samples(page), "band")
        raise TiffError(f"{bands} of {page.photometric.name}, which cannot be read one by one")
    held = max(page.imagewidth * page.imagelength, (page.tilewidth or 0) * (page.tilelength or 0))
    if held > max_pixels or held * _samples(page) * page.dtype.itemsize > _MOST_SAMPLE_BYTES * max_pixels:
        raise TiffError(
            f"{page.imagewidth} x {page.imagelength} pixels of {_samples(page)} bands, more than data.max_pixels="
            f"{max_pixels} allows"
        )


def _called(compression: Any) -> str:
    """The name of a compression, and the number where it has none."""
    return str(getattr(compression, "name", compression))


def _upright(page: Any) -> NDArray[Any]:
    """``[H, W, bands]`` of one page, turned as its tag says."""
    values = page.asarray()
    if page.axes == "YX":
        values = values[:, :, None]
    elif page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    elif page.axes != "YXS":
        raise TiffError(f"the axes {page.axes}, where Y, X and samples can be read")
    orientation = int(page.tags[274].value) if 274 in page.tags else 1
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)
