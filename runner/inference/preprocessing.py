"""From what a caller holds (a file, a picture, an array) to the tensor that a run's model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from runner.config.errors import RequestError
from runner.data.decode import FORMATS, BadImageError, fit, read_image, strict_decoding
from runner.data.decoding_room import ROOM
from runner.data.listing import refuse_file

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


def to_pixels(images: Any, *, size: int, channels: int) -> Tensor:
    """uint8 [n, size, size, channels] from one image or several, decoded and resized as in training.

    Args:
        images: One of, or a sequence of any of: paths, PIL images, uint8 arrays [H, W] or [H, W, C], uint8 tensors
            [C, H, W]; or an array [N, H, W, C] or tensor [N, C, H, W].
        size: Height and width that the model sees.
        channels: 1 or 3; grey becomes RGB and the other way round as for files.

    Raises:
        RequestError: something else was given, there is no image or one without pixels, or a file cannot be read.
    """
    with strict_decoding():
        found = [fitted for one in _each(images) for fitted in _fit(one, size=size, channels=channels)]
    if not any(map(len, found)):
        raise RequestError("images", "nothing", "at least one image")
    return torch.from_numpy(np.concatenate(found))  # a copy, because pictures lend their pixels for reading only


def _each(images: Any) -> Iterable[Any]:
    single = isinstance(images, str | PathLike | Image.Image | np.ndarray | Tensor)
    if not single and not isinstance(images, Iterable):
        raise RequestError("images", type(images).__name__, KINDS)
    return [images] if single else images


def _fit(image: Any, *, size: int, channels: int) -> list[NDArray[np.uint8]]:
    """Pixels [n, size, size, channels] of one item, n = 1 unless it is a batch."""
    if isinstance(image, str | PathLike):
        with ROOM.one_image():
            return [fit(_read(Path(image), size), size=size, channels=channels)[None]]
    if isinstance(image, Image.Image):
        if getattr(image, "format", None) not in (None, *FORMATS):
            # Pillow decodes when the pixels are asked for, that is here.
            raise RequestError("images", f"a picture in the format {image.format}", f"one of {', '.join(FORMATS)}")
        if not all(image.size):
            raise RequestError("images", f"a picture of {image.width} x {image.height}", "images of at least one pixel")
        return [fit(image, size=size, channels=channels)[None]]
    array = _as_array(image)
    if array.shape[1:] == (size, size, channels):
        return [array]
    flat = array[..., 0] if array.shape[3] == 1 else array
    return [fit(Image.fromarray(pixels), size=size, channels=channels)[None] for pixels in flat]


def _read(path: Path, size: int) -> Image.Image:
    try:
        if reason := refuse_file(path.stat()):
            raise BadImageError(reason)
        return read_image(path.read_bytes(), shortest=size)
    except BadImageError as error:
        raise RequestError("images", f"{path} (cannot be decoded: {error})", "a readable image") from error
    except OSError as error:
        raise RequestError("images", f"{path} ({error.strerror})", "a file that can be read") from error


def _as_array(image: Any) -> NDArray[np.uint8]:
    """[n, H, W, C] of an array or a tensor."""
    if isinstance(image, Tensor):
        array = image.cpu().numpy()
        array = np.moveaxis(array, -3, -1) if array.ndim in (3, 4) else array[:0]
    elif isinstance(image, np.ndarray):
        array = image[:, :, None] if image.ndim == 2 else image
    else:
        raise RequestError("images", type(image).__name__, KINDS)
    array = array[None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3):
        raise RequestError("images", f"{image.dtype} of the shape {list(image.shape)}", f"{KINDS}, with C 1 or 3")
    if not all(array.shape[1:3]):
        raise RequestError("images", f"an array of the shape {list(image.shape)}", "images of at least one pixel")
    return np.ascontiguousarray(array)
