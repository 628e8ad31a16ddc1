"""Data sets."""

import hashlib

import numpy as np

from runner.config.schema import DataConfig
from runner.data.images import Decoded, ImageSet


def stripes(config: DataConfig, *, num_train: int = 256) -> Decoded:
    """Grey images of horizontal or vertical stripes under noise; all of it follows from ``data.split_seed``."""
    size = config.image_size or 12
    draw = np.random.default_rng(config.split_seed)
    labels = np.arange(num_train) % 2
    rows, columns = np.indices((size, size))
    lines = np.where(labels[:, None, None] == 0, rows, columns) // 2 % 2 * 128
    images = (lines + draw.integers(0, 128, lines.shape)).astype(np.uint8)[..., None]
    return Decoded(
        train=ImageSet(images=images, labels=labels, rows=np.arange(num_train), names=None),
        val=None,  # held out by data.val_fraction and data.test_fraction
        test=None,
        classes=("horizontal", "vertical"),
        fingerprint=hashlib.sha256(images.tobytes()).hexdigest(),
    )
