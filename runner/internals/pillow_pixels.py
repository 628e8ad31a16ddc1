"""Whether Pillow has decoded a picture."""

from __future__ import annotations

from PIL import Image


def has_pixels(image: Image.Image) -> bool:
    """Whether ``image`` holds pixels, rather than a file that would have to be decoded.

    ``image.im`` would fail in the second case, and ``ImageFile.tile`` is empty for WebP in both.
    """
    return image._im is not None
