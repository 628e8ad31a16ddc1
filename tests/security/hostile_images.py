"""Image files of a few bytes that would run another program or take much more memory than they show."""

import io
import struct
import zlib

from PIL import Image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(harm) print\n"


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(size, *chunks, pixels=b"\0", colour=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    )


def icon(inside, size=16):
    """An icon that says ``size`` and holds the PNG ``inside``."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, size, size, 0, 0, 1, 32, len(inside), 22) + inside


def avif_that_lies(size, claimed):
    raw = encode(Image.new("RGB", size), "AVIF", speed=10)
    at = raw.find(b"ispe") + 8
    return raw[:at] + struct.pack(">II", claimed, claimed) + raw[at + 8 :]


def tiff_of_one_tile(size, tile):
    """A grey TIFF of ``size`` pixels a side in one tile of ``tile`` a side."""
    data = zlib.compress(b"\0" * 1000)
    words = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile}
    tags = [*((tag, 3, value) for tag, value in words.items()), (324, 4, 8 + 2 + 120 + 4), (325, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + data


def others():
    """Real files of formats that Pillow knows and this project does not take."""
    image = Image.new("RGB", (9, 9))
    made = {name: encode(image, name) for name in ("DDS", "ICNS")}
    made["EPS"] = EPS
    made["FITS"] = b"SIMPLE  =                    T".ljust(80) + b"NAXIS   =                    0".ljust(80)
    made["PSD"] = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 9, 9, 8, 3) + b"\0" * 400
    return made
