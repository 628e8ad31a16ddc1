"""Real image files of every awkward kind, written by Pillow, for the tests of this folder."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(size=(16, 16), seed=0, mode="RGB"):
    bands = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *bands), dtype=np.uint8)
    return Image.fromarray(values, mode) if mode == "CMYK" else Image.fromarray(values)


def put(path, image_or_bytes, **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image_or_bytes, bytes):
        path.write_bytes(image_or_bytes)
    else:
        image_or_bytes.save(path, **options)
    return path


def class_folders(root, classes=("cat", "dog"), per_class=10, size=(16, 16), suffix="png"):
    """Write ``per_class`` different images for each class."""
    for number, name in enumerate(classes):
        for i in range(per_class):
            put(root / name / f"{i:03}.{suffix}", noise(size, seed=1000 * number + i))
    return root
