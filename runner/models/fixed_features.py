"""Features that nothing is learned for: a function of one image alone, in front of a small trained network.

Under DP such a front end costs no privacy, because it is fixed before the data are seen and mixes no examples, and it
leaves fewer weights to be hidden in noise (Tramer and Boneh, "Differentially Private Learning Needs Better Features",
ICLR 2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor, nn


class FixedFeatures(nn.Module, ABC):
    """A front end without parameters, computed in the type of its input whatever autocast says.

    Its input are images in float32 (or float64): in a 16-bit type the small differences between them would be rounded
    away.
    """

    given: tuple[int, ...] | None = None
    """Shape of the features of one image that may come in the place of images, and are handed on; None for none."""

    def forward(self, images: Tensor) -> Tensor:
        """Features of [b, C, H, W] images, each computed from its own image."""
        if self.given is not None and images.shape[1:] == self.given:
            return images
        with torch.autocast(images.device.type, enabled=False):
            return self.features(images)

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """What a subclass computes."""


def unit(rows: Tensor) -> Tensor:
    """Each row of [b, d] divided by its L2 norm; a row of zeros stays one."""
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-6)


def fixed_front(model: nn.Module) -> tuple[FixedFeatures, ...]:
    """The layers of ``nn.Sequential`` in front of the first that could learn; none for another model."""
    layers = model.children() if isinstance(model, nn.Sequential) else ()
    return tuple(cast("FixedFeatures", layer) for layer in takewhile(_is_fixed, layers))


def _is_fixed(layer: nn.Module) -> bool:
    return isinstance(layer, FixedFeatures)


def features_of(front: Iterable[FixedFeatures], images: Tensor) -> Tensor:
    """What the layers of ``front``, one after the other, make of [b, C, H, W] images."""
    with torch.no_grad():
        for layer in front:
            images = layer(images)
    return images


def keeps_bits(front: Iterable[FixedFeatures], images: Tensor) -> bool:
    """Whether the features of [b, C, H, W] images have the same bits however the batch is split.

    A product of matrices mostly has not: libraries sum in an order that depends on its size.
    """
    front = tuple(front)
    whole = features_of(front, images)
    for size in (1, 3, len(images) // 2):
        parts = [features_of(front, part) for part in images.split(size)]
        if not torch.equal(torch.cat(parts), whole):
            return False
    return True
