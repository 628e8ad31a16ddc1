"""Facts about a data set before any of its images is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runner.data.cache.image_store import StoreLayout


@dataclass(frozen=True, kw_only=True)
class ListedData:
    """As much as a source can tell; the rest is None."""

    classes: tuple[str, ...] | None
    examples: int | None
    """Size of the training split."""
    origin: str | None
    """As ``ImageData.origin``."""


Tell = Callable[[StoreLayout | None, str | None], None]
"""What a source calls with its layout and the hash of its contents, as soon as it knows either; may raise."""
