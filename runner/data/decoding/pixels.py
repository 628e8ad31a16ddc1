"""Decoded 8-bit pixels of any number of bands, and the options of reading them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.config.schema import DataConfig, Interpolation
from runner.config.words.pluralize import pluralize
from runner.data.decoding.bit_depth import NoRangeError, Stated, to_bytes
from runner.errors import RequestError, as_typed

LARGEST_PIXELS = 1024**3 // 4 // 3
"""Pixels of one image, at most: where Pillow begins to warn of decompression bombs."""

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""How images are resized; all but ``nearest`` with a low-pass filter where they become smaller."""

BILINEAR: Interpolation = "bilinear"

DECODING = 3
"""Number of the way in which files become pixels, for entries of the cache."""

NOTE = "recipe-runner note"
"""Key of ``Image.info`` under which a picture says what of its file is not in it."""

BEYOND = "files whose values all lie beyond data.value_range, which makes them one colour"

MORE_PAGES = "files of several pages, of which the first is used"

_STRIPE_PIXELS = 2**20
"""Pixels of a large image that are changed at a time, so that what is in between stays small."""


class BadImageError(Exception):
    """A file whose pixels cannot be had; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files become pixels, as the data group says."""

    channels: int = 3
    """1 for grey and 3 for RGB, to which files are brought; with another number, files have so many bands, all kept."""
    value_range: tuple[float, float] | None = None
    """``data.value_range``."""
    max_pixels: int | None = None
    """``data.max_pixels``; None for ``LARGEST_PIXELS``."""

    @property
    def limit(self) -> int:
        """Pixels of one image, at most."""
        return LARGEST_PIXELS if self.max_pixels is None else self.max_pixels

    @property
    def keeps_bands(self) -> bool:
        """Whether bands are kept as they are, whatever they stand for."""
        return self.channels not in (1, 3)


def reading_of(config: DataConfig, *, channels: int) -> Reading:
    """What ``config`` says of reading files, with so many channels in the end."""
    wanted = config.value_range
    return Reading(
        channels=channels,
        value_range=None if wanted is None else (float(wanted[0]), float(wanted[1])),
        max_pixels=config.max_pixels,
    )


def changed_reading(config: DataConfig) -> tuple[object, ...]:
    """What ``config`` asks of files that changes their pixels, where it is not the default."""
    asked: list[tuple[object, ...]] = []
    if config.value_range is not None:
        asked.append(("value_range", *map(float, config.value_range)))
    if config.interpolation not in (None, BILINEAR):
        asked.append(("interpolation", config.interpolation))
    return tuple(asked)


def changed_limit(config: DataConfig) -> tuple[object, ...]:
    """What ``config`` asks of the size of files, where it is not the default.

    It decides which files are read and not what their pixels are: it belongs to what is remembered of files, and not
    to the identity of the data, which has the rows that were read.
    """
    return () if config.max_pixels == LARGEST_PIXELS else ("max_pixels", config.max_pixels)


@dataclass(frozen=True)
class Bands:
    """A picture of any number of bands, each of them an 8-bit grey image of one size."""

    bands: tuple[Image.Image, ...]
    info: dict[Any, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.bands[0].size

    @property
    def width(self) -> int:
        """In pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.size[1]


DecodedImage = Image.Image | Bands


def no_range(name: str, error: NoRangeError, reading: Reading) -> RequestError:
    """Word the refusal of the image ``name`` of which nobody has said what is black and white."""
    given = "null" if reading.value_range is None else as_typed(list(reading.value_range))
    return RequestError(
        "data.value_range", f"{given} with {name} ({error})", f"the values of black and white, such as {error.asked}"
    )


def eight_bit(image: Image.Image, reading: Reading, stated: Stated) -> DecodedImage:
    """What ``reading`` asks for of an upright picture with pixels.

    Raises:
        BadImageError, NoRangeError: Its bands or its values cannot be kept.
    """
    if image.mode.startswith(("I", "F")):
        if image.mode == "I" and image.format == "PPM":
            # which Pillow has spread over 16 bits by the file's own largest value
            return from_values(np.asarray(image).astype(np.uint16)[..., None], WHOLE, reading)
        stated = WHOLE if image.format == "JPEG2000" else stated
        values, clear = np.asarray(image), image.info.get("transparency")
        alpha = np.where(values == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
        return from_values(values[..., None], stated, reading, alpha=alpha)
    if reading.keeps_bands:
        image = image.convert("RGB") if image.mode in ("P", "YCbCr", "LAB", "HSV") else image
        image = image.convert("L") if image.mode == "1" else image
        refuse_other_bands(len(image.getbands()), reading)
        return Bands(image.split())
    if image.has_transparency_data:
        return _by_stripes(image, _on_white, "RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


WHOLE = Stated(whole_type=True)


def from_values(
    values: NDArray[Any], stated: Stated, reading: Reading, *, alpha: NDArray[np.uint8] | None = None
) -> DecodedImage:
    """A picture of ``[H, W, n]`` values of any type, which says so where ``data.value_range`` leaves nothing of it.

    Raises:
        BadImageError, NoRangeError: Its bands or its values cannot be kept.
    """
    picture = assembled(to_bytes(values, stated, reading.value_range), reading, alpha=alpha)
    if reading.value_range is not None and values.dtype.kind in "uif" and values.dtype != np.uint8:
        (low, high), least, most = reading.value_range, values.min(), values.max()
        if least != most and (least >= high or most <= low):
            picture.info[NOTE] = BEYOND
    return picture


def assembled(pixels: NDArray[np.uint8], reading: Reading, *, alpha: NDArray[np.uint8] | None = None) -> DecodedImage:
    """A picture of ``[H, W, n]`` and, apart from these, of ``[H, W]`` transparency."""
    if reading.keeps_bands:
        refuse_other_bands(pixels.shape[2], reading)
        return Bands(tuple(Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0)))
    if pixels.shape[2] not in (1, 3):
        raise BadImageError(dropping(pixels.shape[2], reading))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if alpha is None:
        return image
    image = image.convert("RGB")
    image.putalpha(Image.fromarray(alpha))
    return _by_stripes(image, _on_white, "RGB")


def refuse_other_bands(bands: int, reading: Reading) -> None:
    """Raise BadImageError where a picture has not the number of bands that is asked for."""
    if bands != reading.channels:
        raise BadImageError(f"{pluralize(bands, 'band')} where data.channels={reading.channels}")


def dropping(bands: int, reading: Reading) -> str:
    """Why a picture is refused that has more bands than would be kept."""
    return f"{bands} bands, of which data.channels={reading.channels} would drop some: data.channels={bands} keeps them"


def _by_stripes(image: Image.Image, change: Callable[[Image.Image], Image.Image], mode: str) -> Image.Image:
    """``change`` of the whole image, whose pixels are changed one by one, a few rows at a time where it is large."""
    rows = max(1, _STRIPE_PIXELS // image.width)
    if rows >= image.height:
        return change(image)
    changed = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        changed.paste(change(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return changed


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
