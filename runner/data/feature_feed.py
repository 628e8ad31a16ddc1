"""Batches of features that are held for each image of a split, in the place of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from runner.data import augment
from runner.data.cache.checked_map import CheckedMap
from runner.data.feed import RESIDENT_SHARE, Feed

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FeatureFeed:
    """Does what ``runner.data.feed.Feed`` does, by features that were computed before.

    An image has one view, or under ``data.augment.flip`` two: itself and its mirror image.
    """

    decodes = False
    works_ahead = False
    is_ready = True
    """The stored pixels are not read."""

    def __init__(
        self,
        held: NDArray[np.generic],
        *,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        views: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Place ``held`` for access by position.

        Args:
            held: features ``[images * views, ...]``, the views of an image side by side; uint16 holds bfloat16.
            rows: image of each example of the split, ``[n]``.
            labels: class of each example, ``[n]``.
            views: of each image.
            device: where batches are wanted.
            dtype: floating type of the batches.
        """
        self._unchecked = held if isinstance(held, CheckedMap) else None
        values = torch.from_numpy(np.asarray(held))
        self._values = values.view(torch.bfloat16) if values.dtype == torch.uint16 else values
        self._rows = torch.from_numpy(rows)
        self._labels = torch.from_numpy(labels).to(device)
        self._views = views
        self._device = device
        self._dtype = dtype
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self._values.nbytes <= free * RESIDENT_SHARE:
                self._check(torch.arange(len(self._values)))
                self._values = self._values.to(device)

    @property
    def augments(self) -> bool:
        """Whether batches change with draws."""
        return self._views > 1

    def batch(self, rows: Tensor, draws: Tensor | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Gather the features ``[b * copies, ...]`` and labels int64 ``[b]`` of examples; see ``Feed.batch``.

        Raises:
            RunError: what is held is damaged.
        """
        labels = self._labels.index_select(0, rows.to(self._device, non_blocking=True))
        at = self._rows.index_select(0, rows) * self._views
        if copies > 1:
            at = at.repeat_interleave(copies)
        if self._views > 1 and draws is not None:
            at = at + augment.is_mirrored(draws)
        self._check(at)
        found = self._values.index_select(0, at.to(self._values.device, non_blocking=True))
        return found.to(device=self._device, dtype=self._dtype, non_blocking=True), labels

    def span(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Examples ``start`` to ``stop`` - 1 as ``batch`` gives them without draws."""
        return self.batch(torch.arange(start, stop), None)

    def announce(self, rows: Tensor) -> None:
        """Nothing: gathering takes less than handing it to another thread."""

    def close(self) -> None:
        """Nothing: no thread works ahead."""

    def _check(self, at: Tensor) -> None:
        """See, before features are used for the first time, that they are what was written."""
        if self._unchecked is not None:
            if self._unchecked.check_rows is None:
                self._unchecked = None
            else:
                self._unchecked.check_rows(at.numpy())


AnyFeed: TypeAlias = Feed | FeatureFeed
"""Batches of one split on one device."""
