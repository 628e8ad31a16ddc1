"""From the bytes of one image file to 8-bit pixels: rotation, transparency, bit depth, size."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError


class BadImageError(Exception):
    """A file whose pixels cannot be had; the message says why."""


@contextlib.contextmanager
def strict_decoding() -> Iterator[None]:
    """Turn Pillow's warning about a decompression bomb into an error and silence its notes on odd metadata.

    Entered by the thread that starts the decoding threads, because the filters of ``warnings`` belong to the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_image(raw: bytes, *, shortest: int | None) -> Image.Image:
    """Decode a file into an upright 8-bit grey (``L``) or colour (``RGB``) image; of an animation, the first frame.

    Args:
        raw: The whole file.
        shortest: Shorter side in pixels that the caller will resize to, or None to keep every pixel.  Large JPEGs
            are then decoded at a fraction of their size, never below twice this.

    Raises:
        BadImageError: The file cannot be decoded.
    """
    if not raw:
        raise BadImageError("the file is empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(raw))
        if shortest is not None:
            scale = 2 * shortest / min(image.size)
            image.draft(None, (int(image.width * scale) + 1, int(image.height * scale) + 1))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _eight_bit(image)
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError("not an image format that Pillow knows") from None
    except Exception as error:
        # Pillow's many decoders answer damaged bytes with any exception there is: OSError, SyntaxError, struct.error,
        # IndexError, ...  The reason is handed on, and the caller refuses the file or counts it.
        raise BadImageError(" ".join(str(error).split()) or type(error).__name__) from error


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey, whose conversion in Pillow cuts off at 255 instead of scaling.  32-bit integers have no range
        # that everybody agrees on; they are taken as 16-bit where they fit.
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise BadImageError("pixel values beyond 16 bits have no known range")
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def fit(image: Image.Image, *, size: int | None, channels: int) -> NDArray[np.uint8]:
    """Pixels ``[H, W, C]``: the centre square resized (bilinear, antialiased) to ``size``, or all of it for None.

    The result is what resizing the shorter side and cutting out the centre gives, without computing what is cut off.
    An image that has the size already is copied bit by bit.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = (left, top, left + side, top + side)
        image = image.crop(square) if side == size else image.resize((size, size), Image.Resampling.BILINEAR, square)
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def fit_array(images: NDArray[np.uint8], *, size: int | None, channels: int | None) -> NDArray[np.uint8]:
    """``[N, H, W, C]`` at another size or number of channels; the same array where nothing changes."""
    height, width, held = images.shape[1:]
    wanted_size, wanted_channels = size or height, channels or held
    if (height, width, held) == (wanted_size, wanted_size, wanted_channels):
        return images
    flat = images[..., 0] if held == 1 else images
    return np.stack([fit(Image.fromarray(pixels), size=size, channels=wanted_channels) for pixels in flat])
