"""Images of any number, size and number of classes, for benchmarks and tests: a pattern for each class, and noise."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import DataConfig
from runner.data.images import Decoded, ImageSet, refuse_root
from runner.errors import RequestError

STORED_AS = "synthetic 1"
GRID = 4
CHUNK_BYTES = 64 * 2**20


def make_synthetic(
    config: DataConfig, *, num_train: int = 1024, num_val: int = 0, num_test: int = 0, num_classes: int = 10
) -> Decoded:
    """Make images ``data.image_size`` square (null: 32) with ``data.channels`` channels (null: 3).

    Each class is a smooth random pattern; each example adds noise as strong as the pattern to every pixel.  All of it
    follows from ``data.split_seed``.  With ``num_val`` or ``num_test`` 0, ``data.val_fraction`` and
    ``data.test_fraction`` hold examples out of ``num_train``.

    Raises:
        RequestError: A number is out of range.
    """
    refuse_root(config)
    for key, number, least in (
        ("num_classes", num_classes, 2),
        ("num_train", num_train, num_classes),
        ("num_val", num_val, 0),
        ("num_test", num_test, 0),
    ):
        if not isinstance(number, int) or number < least:
            raise RequestError(f"data.{key}", number, f"a whole number, at least {least}")
    size, channels = config.image_size or 32, config.channels or 3
    patterns = _patterns(num_classes, size, channels, config.split_seed)
    made = [
        _examples(patterns, count, config.split_seed, stream) if count else None
        for stream, count in enumerate((num_train, num_val, num_test), start=1)
    ]
    identity = (STORED_AS, config.split_seed, num_train, num_val, num_test, num_classes, size, channels)
    return Decoded(
        train=cast(ImageSet, made[0]),
        val=made[1],
        test=made[2],
        classes=tuple(str(number) for number in range(num_classes)),
        fingerprint=hashlib.sha256(repr(identity).encode()).hexdigest(),
    )


def _patterns(classes: int, size: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """``[K, size, size, C]`` in 0..127: a grid of random values for each class, enlarged bilinearly."""
    grid = _bytes(classes * GRID * GRID * channels, seed, 0).reshape(classes, GRID, GRID, channels) / 255
    place = np.linspace(0, GRID - 1, size)
    low = np.minimum(place.astype(np.int64), GRID - 2)
    weight = np.zeros((size, GRID))
    weight[np.arange(size), low] = 1 - (place - low)
    weight[np.arange(size), low + 1] = place - low
    return np.rint(127 * np.einsum("yi,xj,kijc->kyxc", weight, weight, grid, optimize=True)).astype(np.uint8)


def _examples(patterns: NDArray[np.uint8], count: int, seed: int, stream: int) -> ImageSet:
    labels = np.arange(count) % len(patterns)
    shape = patterns.shape[1:]
    images = np.empty((count, *shape), dtype=np.uint8)
    pixels = int(np.prod(shape))
    step = max(1, CHUNK_BYTES // pixels)
    for first in range(0, count, step):
        chunk = labels[first : first + step]
        noise = _bytes(len(chunk) * pixels, seed, stream, first).reshape(len(chunk), *shape)
        # 127 + 127 at most: the sum stays within a byte.
        np.add(patterns[chunk], noise >> 1, out=images[first : first + step])
    return ImageSet(images=images, labels=labels, rows=np.arange(count), names=None)


def _bytes(count: int, *seed: int) -> NDArray[np.uint8]:
    """Uniform random bytes; PCG64's raw output, unlike numpy's distributions, never changes."""
    raw = np.random.PCG64(np.random.SeedSequence(list(seed))).random_raw(-(-count // 8))
    return np.asarray(raw).astype("<u8").view(np.uint8)[:count]
