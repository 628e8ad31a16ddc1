"""Decoding one image file to 8-bit pixels: rotation, transparency, bit depth, bands, size."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from runner.data.decoding import tiff
from runner.data.decoding.bit_depth import FULL_16, UNSTATED_BELOW, NoRangeError, Stated, left_justified, to_bytes
from runner.data.decoding.memory_budget import ROOM, ROOM_BYTES
from runner.data.decoding.pixels import (
    BILINEAR,
    INTERPOLATIONS,
    LARGEST_PIXELS,
    MORE_PAGES,
    NOTE,
    WHOLE,
    BadImageError,
    Bands,
    DecodedImage,
    Reading,
    dropping,
    eight_bit,
    from_values,
)
from runner.internals.pillow_pixels import has_pixels

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
"""What Pillow may take a file for, whatever its name.  Left out are formats that call other programs (EPS calls
Ghostscript), that need the system's own decoders (WMF), and those in which nobody keeps photographs."""

OPENED = (*FORMATS, "MPO")
"""Formats that pictures may say they have: a JPEG with more pictures behind the first calls itself MPO."""

# Bytes that Pillow and the format's library hold for a pixel besides the finished image: OpenJPEG computes in 32-bit
# integers, and libwebp keeps two canvases and hands out a copy.
_WORK_BYTES = {"JPEG2000": 24, "WEBP": 12}

# Where these files say how large the image is, it need not be: an icon is decoded before its size is known, and the
# frame in an AVIF is scaled to what the container claims.  Each gets all the room there is.
_ICON, _AVIF = b"\x00\x00\x01\x00", b"ftyp"

_TILE_WIDTH, _TILE_LENGTH = 322, 323

_pillow_open = Image.open


class _UnknownImageError(BadImageError):
    """None of the formats."""


def open_image(file: Any, *, max_pixels: int | None = None) -> ImageFile.ImageFile:
    """Read the header of a path or a binary file in one of ``FORMATS``; the one way in which image files are opened.

    Raises:
        BadImageError: It has none of the formats, or more than ``max_pixels`` (None: ``LARGEST_PIXELS``).
    """
    limit = LARGEST_PIXELS if max_pixels is None else max_pixels
    if limit > LARGEST_PIXELS and Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # Pillow's own guard is one for the process
    if _head(file)[:4] == _ICON or _head(file)[4:8] == _AVIF:
        ROOM.take(ROOM_BYTES)
    try:
        image = _pillow_open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise _UnknownImageError(f"none of the formats {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(_too_many(limit)) from None
    if image.width * image.height > limit:  # where the caller's process ignores the warning
        raise BadImageError(_too_many(limit))
    return image


def _too_many(limit: int) -> str:
    text = f"{limit / 1e6:.0f} million" if limit >= 10**7 else f"{limit:,}"
    return f"more than {text} pixels, the limit of data.max_pixels"


def guard_pillow(max_pixels: int) -> None:
    """Have ``PIL.Image.open`` take the same formats and as little memory from now on, for libraries that call it."""
    Image.open = partial(_open_for_others, max_pixels)  # type: ignore[assignment]


def _open_for_others(max_pixels: int, file: Any, mode: Literal["r"] = "r", formats: Any = None) -> ImageFile.ImageFile:
    """``PIL.Image.open`` with ``FORMATS`` alone, whatever is asked."""
    image = open_image(file, max_pixels=max_pixels)
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


def read_image(raw: bytes, *, shortest: int | None, reading: Reading | None = None) -> DecodedImage:
    """Decode a file into an upright 8-bit grey (``L``) or colour (``RGB``) image, or into its bands.

    Of an animation, the first frame; of several pages, the first, which the picture's ``info`` then says.

    Args:
        raw: The whole file.
        shortest: Shorter side in pixels that the caller will resize to, or None to keep every pixel.  Large JPEGs
            are then decoded at a fraction of their size, never below twice this.
        reading: Channels, the range of values of more than 8 bits, and the most pixels; None for the usual.

    Raises:
        BadImageError: The file cannot be decoded, has another format, too many pixels, or bands that would be lost.
        NoRangeError: Nobody has said what is black and what is white in it.
    """
    reading = reading or Reading()
    if not raw:
        raise BadImageError("the file is empty")
    try:
        if raw[:4] in tiff.MAGIC:
            return _read_tiff(raw, reading)
        image: Image.Image = open_image(io.BytesIO(raw), max_pixels=reading.max_pixels)
        stored = image.size
        deep = _has_deep_colours(image)
        if shortest is not None:
            scale = 2 * shortest / min(image.size)
            image.draft(None, (int(image.width * scale) + 1, int(image.height * scale) + 1))
        ROOM.take(_needed(image, stored))
        image.load()
        if deep and (samples := _deep_colours(raw, image, reading)) is not None:
            return samples
        ImageOps.exif_transpose(image, in_place=True)
        return eight_bit(image, reading, _stated_png(raw, image) if image.format == "PNG" else Stated())
    except (BadImageError, NoRangeError):
        raise
    except tiff.TiffError as error:
        raise BadImageError(str(error)) from error
    except Exception as error:
        # Pillow's many decoders answer damaged bytes with any exception there is: OSError, SyntaxError, struct.error,
        # IndexError, ...  The reason is handed on, and the caller refuses the file or counts it.
        raise BadImageError(" ".join(str(error).split()) or type(error).__name__) from error


def read_picture(image: Image.Image, *, shortest: int | None, reading: Reading | None = None) -> DecodedImage:
    """``read_image`` of a picture that Pillow holds: as its file where it has not been decoded yet, else its pixels.

    The picture stays as it is.

    Raises:
        BadImageError, NoRangeError: see ``read_image``.
    """
    reading = reading or Reading()
    try:
        raw = _undecoded_file(image)
        if raw is not None:
            opened = open_image(io.BytesIO(raw), max_pixels=reading.max_pixels)
            if (opened.size, opened.mode) == (image.size, image.mode):  # nobody has asked for a smaller draft
                return read_image(raw, shortest=shortest, reading=reading)
        image.load()
        stated = Stated()
        if isinstance(image, TiffImagePlugin.TiffImageFile) and not image.tell():
            tags = tiff.tags_of(image)
            _refuse_dropped(tags, reading)
            stated = tags.stated
            if tags.format == 2 and max(tags.bits) == 8:
                raise BadImageError("signed 8-bit values, of which Pillow has lost the sign")
            if _needs_samples(image, tags, reading):
                raise BadImageError(f"{max(tags.bits)}-bit colours, of which Pillow has lost some: open it by its path")
        upright = ImageOps.exif_transpose(image)
        upright.format = image.format
        return eight_bit(upright, reading, stated)
    except (BadImageError, NoRangeError):
        raise
    except Exception as error:  # as above
        raise BadImageError(" ".join(str(error).split()) or type(error).__name__) from error


def _undecoded_file(image: Image.Image) -> bytes | None:
    """The file of a picture that is opened and no more; None where there are pixels, or another frame was chosen."""
    if not isinstance(image, ImageFile.ImageFile) or has_pixels(image) or image.fp is None or image.tell():
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    raw: bytes = image.fp.read()
    image.fp.seek(place)
    return raw


# TIFF


def _read_tiff(raw: bytes, reading: Reading) -> DecodedImage:
    """By Pillow where that keeps every band and value, else sample by sample."""
    if reading.keeps_bands:
        return _from_samples(tiff.read_samples(raw, bands=reading.channels, max_pixels=reading.limit), reading)
    try:
        image = open_image(io.BytesIO(raw), max_pixels=reading.max_pixels)
    except _UnknownImageError:
        return _from_samples(tiff.read_samples(raw, bands=None, max_pixels=reading.limit), reading)
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    tags = tiff.tags_of(image)
    _refuse_dropped(tags, reading)
    if tags.depth > 1:
        raise BadImageError(f"a volume of {tags.depth} pictures, which cannot be read")
    more = tiff.has_more_pages(image)
    ROOM.take(_needed(image, image.size))
    image.load()
    if (tags.format == 2 and max(tags.bits) == 8) or _needs_samples(image, tags, reading):
        picture = _from_samples(tiff.read_samples(raw, bands=None, max_pixels=reading.limit), reading)
    else:
        upright = ImageOps.exif_transpose(image)
        if image.mode == "I" and tags.format == 1 and max(tags.bits) == 32:  # which Pillow takes for signed
            values = np.asarray(upright).view(np.uint32)
            picture = from_values(values[..., None], tags.stated, reading)
        else:
            picture = eight_bit(upright, reading, tags.stated)
    if more:
        picture.info.setdefault(NOTE, MORE_PAGES)
    return picture


def _needs_samples(image: Image.Image, tags: tiff.Tags, reading: Reading) -> bool:
    """Whether Pillow's ``image`` lacks what the file's colours of more than 8 bits hold."""
    if max(tags.bits) <= 8 or tags.samples == 1:
        return False
    # Of colours that lie in planes Pillow takes the bytes of 16 bits for pixels.
    return tags.planes or _needs_all_bits(image, reading, stated=tags.stated.high not in (None, FULL_16))


def _from_samples(samples: tiff.Samples, reading: Reading) -> DecodedImage:
    values, stated = samples.values, samples.stated
    if values.dtype == np.uint8 and stated.bits is not None and stated.bits < 8:
        values = np.rint(values * (255 / (2**stated.bits - 1))).astype(np.uint8)
    colours_held = values.shape[2] - (1 if samples.alpha else 0)
    if not reading.keeps_bands and colours_held not in (1, 3):
        raise BadImageError(dropping(values.shape[2], reading))
    if reading.keeps_bands or not samples.alpha:
        return from_values(values, stated, reading)
    colours, alpha = values[..., :-1], values[..., -1]
    opaque = (0.0, 1.0) if alpha.dtype.kind == "f" else None
    return from_values(colours, stated, reading, alpha=to_bytes(alpha, WHOLE, opaque))


def _refuse_dropped(tags: tiff.Tags, reading: Reading) -> None:
    if tags.dropped and not reading.keeps_bands:
        raise BadImageError(dropping(tags.samples, reading))


# Colours of 16 bits, of which Pillow hands out the upper 8


def _has_deep_colours(image: Image.Image) -> bool:
    tiles: Any = getattr(image, "tile", ())
    if not tiles or image.mode.startswith("I"):
        return False
    return image.format == "JPEG2000" or (image.format == "PNG" and ";16" in str(tiles[0][3]))


def _needs_all_bits(image: Image.Image, reading: Reading, *, stated: bool, below: int = UNSTATED_BELOW) -> bool:
    """Whether the upper 8 bits, which ``image`` holds, are not what black and white are spread over."""
    if reading.value_range is not None:
        return reading.value_range != (0, FULL_16)
    brightest = max(int(np.asarray(image.getchannel(band)).max()) for band in image.getbands() if band != "A")
    return stated or brightest < below >> 8


def _deep_colours(raw: bytes, image: Image.Image, reading: Reading) -> DecodedImage | None:
    """A PNG or JPEG 2000 of colours of more than 8 bits with all of their bits; None where the upper 8 will do."""
    bits = 16
    if image.format == "PNG":
        if not _needs_all_bits(image, reading, stated=False, below=2**15 if _sbit(raw) == 15 else UNSTATED_BELOW):
            return None
    elif (bits := _bits_of_jpeg2000(raw)) <= 8:
        return None
    if find_spec("imagecodecs") is None:
        raise BadImageError(f"{bits}-bit colours of such a range need imagecodecs: pip install recipe-runner[tiff]")
    import imagecodecs

    ROOM.take(2 * _needed(image, image.size))
    alpha = image.mode in ("LA", "RGBA")
    if image.format == "PNG":
        values = imagecodecs.png_decode(raw)
        stated_range = _stated_by_sbit(raw, values[..., :-1] if alpha else values)
    else:
        values = imagecodecs.jpeg2k_decode(raw)
        stated_range = WHOLE if bits == 16 else Stated(bits=bits)
    return _from_samples(tiff.Samples(values=values, stated=stated_range, alpha=alpha), reading)


def _bits_of_jpeg2000(raw: bytes) -> int:
    """Bits of its deepest component, by the marker SIZ (ISO/IEC 15444-1, A.5.1).

    Pillow rounds colours of more than 8 bits to 8 such that white becomes 256, which is 0.
    """
    start = raw.find(b"\xff\x4f\xff\x51") + 4
    components = int.from_bytes(raw[start + 36 : start + 38])
    return max(((depth & 0x7F) + 1 for depth in raw[start + 38 : start + 38 + 3 * components : 3]), default=8)


def _stated_png(raw: bytes, image: Image.Image) -> Stated:
    return _stated_by_sbit(raw, np.asarray(image)) if image.mode.startswith("I;16") else Stated()


def _stated_by_sbit(raw: bytes, values: NDArray[Any]) -> Stated:
    """What the chunk sBIT says: samples of fewer bits, spread over 16 as they should be, or left as they were."""
    bits = _sbit(raw)
    if bits is None or not 8 < bits < 16:
        return Stated()
    return WHOLE if left_justified(values, bits) else Stated(bits=bits)


def _sbit(raw: bytes) -> int | None:
    """Significant bits of a PNG's colours; None where it does not say."""
    place = 8
    while place + 8 <= len(raw):
        length, kind = struct.unpack(">I4s", raw[place : place + 8])
        if kind in (b"IDAT", b"PLTE", b"IEND"):
            return None
        if kind == b"sBIT":
            found = raw[place + 8 : place + 8 + length]
            return max(found[: 3 if length >= 3 else 1], default=None)
        place += 12 + length
    return None


def fit(image: DecodedImage, *, size: int | None, channels: int, interpolation: str = BILINEAR) -> NDArray[np.uint8]:
    """Pixels ``[H, W, C]``: the centre square resized (antialiased) to ``size``, or all of it for None.

    The result is what resizing the shorter side and cutting out the centre gives, without computing what is cut off.
    An image that has the size already is copied bit by bit.
    """
    if isinstance(image, Bands):
        same: Any = {"size": size, "channels": 1, "interpolation": interpolation}
        return np.concatenate([fit(band, **same) for band in image.bands], axis=2)
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if size is not None and image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = (left, top, left + side, top + side)
        resample = INTERPOLATIONS[interpolation]
        image = image.crop(square) if side == size else image.resize((size, size), resample, square)
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def fit_array(
    images: NDArray[np.uint8], *, size: int | None, channels: int | None, interpolation: str = BILINEAR
) -> NDArray[np.uint8]:
    """``[N, H, W, C]`` at another size or with 1 or 3 channels; the same array where nothing changes."""
    height, width, held = images.shape[1:]
    wanted_size, wanted_channels = size or height, channels or held
    if (height, width, held) == (wanted_size, wanted_size, wanted_channels):
        return images
    flat = images[..., 0] if held == 1 else images
    same: Any = {"size": size, "channels": wanted_channels, "interpolation": interpolation}
    return np.stack([fit(Image.fromarray(pixels), **same) for pixels in flat])
