"""From the bytes of one image file to 8-bit pixels: rotation, transparency, bit depth, size."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from runner.data.decoding_room import ROOM, ROOM_BYTES

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
"""What Pillow may take a file for, whatever its name.  Left out are formats that call other programs (EPS calls
Ghostscript), that need the system's own decoders (WMF), and those in which nobody keeps photographs."""

LARGEST_PIXELS = 1024**3 // 4 // 3
"""Pixels of one image, at most: where Pillow begins to warn of decompression bombs."""

_TOO_MANY = f"more than {LARGEST_PIXELS / 1e6:.0f} million pixels"

# Bytes that Pillow and the format's library hold for a pixel besides the finished image: OpenJPEG computes in 32-bit
# integers, and libwebp keeps two canvases and hands out a copy.
_WORK_BYTES = {"JPEG2000": 24, "WEBP": 12}

# Where these files say how large the image is, it need not be: an icon is decoded before its size is known, and the
# frame in an AVIF is scaled to what the container claims.  Each gets all the room there is.
_ICON, _AVIF = b"\x00\x00\x01\x00", b"ftyp"

_TILE_WIDTH, _TILE_LENGTH = 322, 323

_BAND_PIXELS = 2**20
"""Pixels of a large image that are changed at a time, so that what is in between stays small."""

_pillow_open = Image.open


class BadImageError(Exception):
    """A file whose pixels cannot be had; the message says why."""


def open_image(file: Any) -> ImageFile.ImageFile:
    """Read the header of a path or a binary file in one of ``FORMATS``; the one way in which image files are opened.

    Raises:
        BadImageError: It has none of the formats, or more than ``LARGEST_PIXELS``.
    """
    if _head(file)[:4] == _ICON or _head(file)[4:8] == _AVIF:
        ROOM.take(ROOM_BYTES)
    try:
        image = _pillow_open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImageError(f"none of the formats {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(_TOO_MANY) from None
    if image.width * image.height > LARGEST_PIXELS:  # where the caller's process ignores the warning
        raise BadImageError(_TOO_MANY)
    return image


def guard_pillow() -> None:
    """Have ``PIL.Image.open`` take the same formats and as little memory, for libraries that open images themselves.

    It holds for the whole process from then on.
    """
    Image.open = _open_for_others  # type: ignore[assignment]


def _open_for_others(file: Any, mode: Literal["r"] = "r", formats: Any = None) -> ImageFile.ImageFile:
    """``PIL.Image.open`` with ``FORMATS`` alone, whatever is asked."""
    image = open_image(file)
    ROOM.take(_needed(image, image.size))
    return image


def _head(file: Any) -> bytes:
    if not hasattr(file, "read"):
        with open(file, "rb") as opened:  # noqa: PTH123
            return opened.read(12)
    head: bytes = file.read(12)
    file.seek(0)
    return head


def _needed(image: Image.Image, stored: tuple[int, int]) -> int:
    """Bytes that decoding takes: of the pixels as they are stored, of the finished ones, and of the library's work."""
    width, height = image.size
    if image.format == "TIFF":
        # A tile may be larger than the image, and is decoded whole.
        width, height = max(width, _tag(image, _TILE_WIDTH)), max(height, _tag(image, _TILE_LENGTH))
    kept = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    finished = 1 if image.mode in ("1", "L") else 4
    needed = width * height * (kept + finished + _WORK_BYTES.get(image.format or "", 0))
    # All coefficients of a progressive JPEG are held, 16 bits each, however small it is decoded.
    return needed + (6 * stored[0] * stored[1] if "progressive" in image.info else 0)


def _tag(image: Any, number: int) -> int:
    """Largest value of a TIFF's tag; 0 where it is missing or no number."""
    found = image.tag_v2.get(number, 0)
    found = found if isinstance(found, tuple) else (found,)
    return max((value for value in found if isinstance(value, int)), default=0)


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
        BadImageError: The file cannot be decoded, has another format or too many pixels.
    """
    if not raw:
        raise BadImageError("the file is empty")
    try:
        image: Image.Image = open_image(io.BytesIO(raw))
        stored = image.size
        if shortest is not None:
            scale = 2 * shortest / min(image.size)
            image.draft(None, (int(image.width * scale) + 1, int(image.height * scale) + 1))
        ROOM.take(_needed(image, stored))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _eight_bit(image)
    except BadImageError:
        raise
    except Exception as error:
        # Pillow's many decoders answer damaged bytes with any exception there is: OSError, SyntaxError, struct.error,
        # IndexError, ...  The reason is handed on, and the caller refuses the file or counts it.
        raise BadImageError(" ".join(str(error).split()) or type(error).__name__) from error


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey, whose conversion in Pillow cuts off at 255 instead of scaling.  32-bit integers have no range
        # that everybody agrees on; they are taken as 16-bit where they fit.
        return _by_bands(image, _scaled, "L")
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no known range")
    if image.has_transparency_data:
        return _by_bands(image, _on_white, "RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _by_bands(image: Image.Image, change: Callable[[Image.Image], Image.Image], mode: str) -> Image.Image:
    """``change`` of the whole image, whose pixels are changed one by one, a few rows at a time where it is large."""
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        return change(image)
    changed = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        changed.paste(change(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return changed


def _scaled(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise BadImageError("pixel values beyond 16 bits have no known range")
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def fit(image: Image.Image, *, size: int | None, channels: int) -> NDArray[np.uint8]:
    """Pixels ``[H, W, C]``: the centre square resized (bilinear, antialiased) to ``size``, or all of it for None.

    The result is what resizing the shorter side and cutting out the centre gives, without computing what is cut off.
    An image that has the size already is copied bit by bit.
    """
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
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
