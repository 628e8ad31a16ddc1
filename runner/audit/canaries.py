"""The data set of an audit: canaries, of which a coin each decided whether they are present, among other images."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import DataConfig
from runner.data.images import Decoded, ImageData, ImageSet
from runner.errors import RequestError

STORED_AS = "canaries 2"
CLASSES = 10
OTHER_PIXELS = 64
"""Pixels that every image which is no canary lights."""
TEST_IMAGES = 100
_FULL = 255
_OTHER_LIGHT = 32


@dataclass(frozen=True, kw_only=True)
class CanaryLayout:
    """Which pixel of a row-major image belongs to what: canaries first, then the others."""

    canaries: int
    size: int
    """Height and width."""

    @classmethod
    def of(cls, canaries: int) -> CanaryLayout:
        """The smallest square with room for ``canaries`` pixels and those of the others."""
        return cls(canaries=canaries, size=math.isqrt(canaries + OTHER_PIXELS - 1) + 1)


def make_canaries(config: DataConfig, *, canaries: int = 1000, others: int = 200) -> Decoded:
    """``canaries`` one-pixel images among ``others`` (see ``CanaryLayout``), a function of ``data.split_seed``.

    Canary i lights pixel i and nothing else, at full brightness, so that its gradient in the first layer is a row of
    its own: canaries made of random pixels overlap, and their interference hides that noise is missing.  A coin decides
    whether a canary is present; an absent one leaves a black image in its place.  In a network without biases, on
    pixels normalised with mean zero, a black image has the gradient zero: to any clipped sum it is as if removed, while
    the number of examples and with it the sampling rate stay what they were.  So the coins are independent and the
    neighbouring relation is that of the claim.

    The training split holds the canaries first, in order; ``train.rows`` tells who is present (see ``coins``).

    Raises:
        RequestError: A number is out of range, or a size or number of channels is asked for.
    """
    for key, number in (("canaries", canaries), ("others", others)):
        if not isinstance(number, int) or number < CLASSES:
            raise RequestError(f"data.{key}", number, f"a whole number, at least {CLASSES}")
    layout = CanaryLayout.of(canaries)
    if config.image_size not in (None, layout.size):
        raise RequestError("data.image_size", config.image_size, f"null: {canaries} canaries need {layout.size}")
    if config.channels not in (None, 1):
        raise RequestError("data.channels", config.channels, "null: canaries are grey")
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([config.split_seed, canaries, others])))
    present = random.integers(0, 2, canaries) == 1
    labels = random.integers(0, CLASSES, canaries + others + TEST_IMAGES)
    lights = random.integers(0, _OTHER_LIGHT, (others + TEST_IMAGES, OTHER_PIXELS), dtype=np.uint8)

    black = canaries
    flat = np.zeros((canaries + 1 + others + TEST_IMAGES, layout.size**2), dtype=np.uint8)
    flat[np.arange(canaries), np.arange(canaries)] = _FULL
    flat[black + 1 :, canaries : canaries + OTHER_PIXELS] = lights
    images = flat.reshape(-1, layout.size, layout.size, 1)
    rows = np.arange(black + 1, len(images))
    identity = (STORED_AS, config.split_seed, canaries, others)
    return Decoded(
        train=ImageSet(
            images=images,
            labels=labels[: canaries + others],
            rows=np.concatenate([np.where(present, np.arange(canaries), black), rows[:others]]),
            names=None,
        ),
        val=None,
        test=ImageSet(images=images, labels=labels[canaries + others :], rows=rows[others:], names=None),
        classes=tuple(str(number) for number in range(CLASSES)),
        fingerprint=hashlib.sha256(repr(identity).encode()).hexdigest(),
    )


def coins(data: ImageData, canaries: int) -> NDArray[np.bool_]:
    """Whether each canary is present in the training split: ``[canaries]``."""
    return data.train.rows[:canaries] == np.arange(canaries)


def every_canary(data: ImageData, canaries: int) -> ImageSet:
    """All canaries, present or not, with their labels."""
    return ImageSet(images=data.train.images, labels=data.train.labels[:canaries], rows=np.arange(canaries), names=None)
