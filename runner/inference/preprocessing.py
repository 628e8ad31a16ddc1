"""Preprocessing of a caller's images (file, picture, array) to the tensor that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from runner.config.words.expand_user import expand_user
from runner.data.decoding.bit_depth import NoRangeError
from runner.data.decoding.decode import FORMATS, OPENED, fit, read_image, read_picture, strict_decoding
from runner.data.decoding.memory_budget import ROOM
from runner.data.decoding.pixels import BILINEAR, BadImageError, Bands, DecodedImage, Reading
from runner.data.folders.listing import refuse_file
from runner.errors import RequestError

KINDS = "paths, PIL images, uint8 arrays [H, W], [H, W, C] or [N, H, W, C], or uint8 tensors [C, H, W] or [N, C, H, W]"


class Normalise(nn.Module):
    """``(pixels / 255 - mean) / std``, with the bits that ``runner.data.feed.Feed`` gives."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> None:
        """Constants for each channel, in [0, 1]; ``dtype`` is the result's, float32 or float64."""
        super().__init__()
        # In float64 until here, as in the feed: one rounding, to the type that it is used in.
        wide = torch.tensor(std, dtype=torch.float64)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / (255 * wide)).to(dtype))
        self.register_buffer("shift", (-torch.tensor(mean, dtype=torch.float64) / wide).to(dtype))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [b, H, W, C] to [b, C, H, W] in channels-last memory."""
        return (pixels.to(self.scale.dtype) * self.scale + self.shift).permute(0, 3, 1, 2)


def to_pixels(
    images: Any,
    *,
    size: int,
    channels: int,
    reading: Reading | None = None,
    shortest: int | None = None,
    interpolation: str = BILINEAR,
) -> Tensor:
    """uint8 [n, size, size, channels] from one image or several, decoded and resized as in training.

    A path and the PIL image that is opened from it give the same: rotation by EXIF, transparency, palettes, 16 bits and
    bands are read in one way.  A PIL image with pixels already is resized from these, where a large JPEG file is
    decoded at a fraction of its size.

    Args:
        images: One of, or a sequence of any of: paths, PIL images, uint8 arrays [H, W] or [H, W, C], uint8 tensors
            [C, H, W]; or an array [N, H, W, C] or tensor [N, C, H, W].  Arrays and tensors are upright pixels, from 0
            to 255.
        size: Height and width that the model sees.
        channels: Of the model; grey becomes RGB and the other way round as for files.
        reading: How the run reads files; None for the usual way.
        shortest: Shorter side for which files are decoded; None for ``size``.
        interpolation: How images are resized.

    Raises:
        RequestError: something else was given, there is no image or one without pixels, or a file cannot be read.
    """
    form = _Form(
        size=size,
        channels=channels,
        reading=reading or Reading(channels=channels),
        shortest=shortest or size,
        interpolation=interpolation,
    )
    with strict_decoding():
        found = [fitted for one in _each(images) for fitted in _fit(one, form)]
    if not any(map(len, found)):
        raise RequestError("images", "nothing", "at least one image")
    return torch.from_numpy(np.concatenate(found))  # a copy, because pictures lend their pixels for reading only


def _each(images: Any) -> Iterable[Any]:
    single = isinstance(images, str | PathLike | Image.Image | np.ndarray | Tensor)
    if not single and not isinstance(images, Iterable):
        raise RequestError("images", type(images).__name__, KINDS)
    return [images] if single else images


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What each image is brought to."""

    size: int
    channels: int
    reading: Reading
    shortest: int
    interpolation: str

    def fitted(self, image: DecodedImage) -> NDArray[np.uint8]:
        """[1, size, size, channels]."""
        return fit(image, size=self.size, channels=self.channels, interpolation=self.interpolation)[None]


def _fit(image: Any, form: _Form) -> list[NDArray[np.uint8]]:
    """Pixels [n, size, size, channels] of one item, n = 1 unless it is a batch."""
    if isinstance(image, str | PathLike):
        path = Path(expand_user(fspath(image)))
        with ROOM.one_image(), _named(str(path)):
            return [form.fitted(_read(path, form))]
    if isinstance(image, Image.Image):
        if getattr(image, "format", None) not in (None, *OPENED):
            # Pillow decodes when the pixels are asked for, that is here.
            raise RequestError("images", f"a picture in the format {image.format}", f"one of {', '.join(FORMATS)}")
        if not all(image.size):
            raise RequestError("images", f"a picture of {image.width} x {image.height}", "images of at least one pixel")
        with ROOM.one_image(), _named(f"a picture of the mode {image.mode}"):
            return [form.fitted(read_picture(image, shortest=form.shortest, reading=form.reading))]
    array = _as_array(image, form.channels)
    if array.shape[1:] == (form.size, form.size, form.channels):
        return [array]
    return [form.fitted(_as_picture(pixels)) for pixels in array]


def _as_picture(pixels: NDArray[np.uint8]) -> DecodedImage:
    if pixels.shape[2] == 1:
        return Image.fromarray(pixels[..., 0])
    if pixels.shape[2] == 3:
        return Image.fromarray(pixels)
    return Bands(tuple(Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0)))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say which image it is that cannot be read."""
    try:
        yield
    except BadImageError as error:
        raise RequestError("images", f"{name} (cannot be decoded: {error})", "a readable image") from error
    except NoRangeError as error:
        expected = "a run with data.value_range, or images of 8 bits"
        raise RequestError("images", f"{name} ({error})", expected) from error


def _read(path: Path, form: _Form) -> DecodedImage:
    try:
        if reason := refuse_file(path.stat()):
            raise BadImageError(reason)
        return read_image(path.read_bytes(), shortest=form.shortest, reading=form.reading)
    except OSError as error:
        raise RequestError("images", f"{path} ({error.strerror})", "a file that can be read") from error


def _as_array(image: Any, channels: int) -> NDArray[np.uint8]:
    """[n, H, W, C] of an array or a tensor."""
    if isinstance(image, Tensor):
        array = image.cpu().numpy()
        array = np.moveaxis(array, -3, -1) if array.ndim in (3, 4) else array[:0]
    elif isinstance(image, np.ndarray):
        array = image[:, :, None] if image.ndim == 2 else image
    else:
        raise RequestError("images", type(image).__name__, KINDS)
    array = array[None] if array.ndim == 3 else array
    taken = (1, 3) if channels in (1, 3) else (channels,)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in taken:
        expected = f"{KINDS}, with C {' or '.join(map(str, taken))}"
        raise RequestError("images", f"{image.dtype} of the shape {list(image.shape)}", expected)
    if not all(array.shape[1:3]):
        raise RequestError("images", f"an array of the shape {list(image.shape)}", "images of at least one pixel")
    return np.ascontiguousarray(array)
