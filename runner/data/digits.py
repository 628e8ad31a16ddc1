"""The handwritten digits that scikit-learn carries inside its package."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from runner.config.schema import DataConfig
from runner.data.decoding.decode import fit_array
from runner.data.decoding.pixels import BILINEAR
from runner.data.images import Decoded, ImageSet, refuse_root
from runner.errors import RequestError

INKED = 16  # value of a pixel that is all ink


def load_digits(config: DataConfig) -> Decoded:
    """1,797 grey digits of 8 x 8 pixels (Alpaydin and Kaynak 1998), values 0..16 spread over 0..255."""
    refuse_root(config)
    if config.channels not in (None, 1, 3):
        raise RequestError("data.channels", config.channels, f"1, 3 or null with data={config.name}")
    raw = _digits_file().read_bytes()
    table = np.loadtxt(gzip.decompress(raw).decode("ascii").splitlines(), delimiter=",")
    ink = table[:, :-1].reshape(-1, 8, 8, 1)
    images = fit_array(
        np.rint(ink * (255 / INKED)).astype(np.uint8),
        size=config.image_size,
        channels=config.channels,
        interpolation=config.interpolation or BILINEAR,
    )
    how = repr(images.shape) if config.interpolation in (None, BILINEAR) else repr((images.shape, config.interpolation))
    return Decoded(
        train=ImageSet(images=images, labels=table[:, -1].astype(np.int64), rows=np.arange(len(images)), names=None),
        val=None,
        test=None,
        classes=tuple(str(digit) for digit in range(10)),
        fingerprint=hashlib.sha256(raw + how.encode()).hexdigest(),
        origin=hashlib.sha256(raw).hexdigest(),
    )


def _digits_file() -> Path:
    # Importing sklearn.datasets takes 2 s, which every cell of a sweep would pay for one file of 56 kB.  Finding the
    # package imports nothing.
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
