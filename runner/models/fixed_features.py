"""Features that nothing is learned for: a function of one image alone, in front of a small trained network.

Under DP such a front end costs no privacy, because it is fixed before the data are seen and mixes no examples, and it
leaves fewer weights to be hidden in noise (Tramer and Boneh, "Differentially Private Learning Needs Better Features",
ICLR 2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class FixedFeatures(nn.Module, ABC):
    """A front end without parameters, computed in the type of its input whatever autocast says.

    Its input are images in float32 (or float64): in a 16-bit type the small differences between them would be rounded
    away.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Features of [b, C, H, W] images, each computed from its own image."""
        with torch.autocast(images.device.type, enabled=False):
            return self.features(images)

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """What a subclass computes."""


def unit(rows: Tensor) -> Tensor:
    """Each row of [b, d] divided by its L2 norm; a row of zeros stays one."""
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-6)
