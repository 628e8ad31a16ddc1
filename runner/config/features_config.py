"""The keys of ``features``: what layers that never change give, and whether it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class FeaturesConfig:
    """The output of the layers in front of a network that never change, such as wavelet scattering."""

    cache: Literal["auto", "off"] = "auto"
    """``auto`` computes it once for each image where a run uses it at least as often, and keeps it where ``data.cache``
    keeps images: the same bits for less time.  ``off`` computes it anew for every batch."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which it is kept: ``float32`` as it was computed, ``bfloat16`` rounded to half the size, which is another
    recipe."""
