"""Batches of pixels that other threads put together before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

Fill = Callable[[Tensor, Tensor], None]
"""(rows int64 [b], out uint8 [b, H, W, C]): puts the pixels of rows into out; called from several threads."""


@dataclass(frozen=True)
class _Batch:
    rows: Tensor
    pixels: Tensor
    tasks: list[Future[None]]

    def wait(self) -> Tensor:
        for task in self.tasks:
            task.result()
        return self.pixels


class Prefetcher:
    """Works on the batches that were announced, in their order; what was not announced is done at once.

    What is announced is held until it is taken, so memory is bounded by what is announced.  The pixels of a batch are
    a function of its rows: threads change when they are there and not what they are.
    """

    def __init__(self, fill: Fill, shape: tuple[int, ...], *, threads: int, task: int, pinned: bool) -> None:
        """Start no thread yet.

        Args:
            fill: Does the work.
            shape: ``(H, W, C)``.
            threads: Number of threads.
            task: Rows that a thread does at a time.
            pinned: Put batches where a GPU can fetch them by itself.
        """
        self._fill = fill
        self._shape = shape
        self._task = task
        self._pinned = pinned
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="runner-decode")
        self._announced: deque[_Batch] = deque()

    def announce(self, rows: Tensor) -> None:
        """Begin to work on the batch of ``rows``, after those announced before."""
        self._announced.append(self._begin(rows))

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 ``[b, H, W, C]`` of ``rows``, when they are there.

        Raises:
            RunError: An image cannot be decoded; names it.
        """
        for place, batch in enumerate(self._announced):
            if torch.equal(batch.rows, rows):
                # Those before it were never asked for: after memory ran out, batches are smaller than announced.
                for _ in range(place + 1):
                    self._announced.popleft()
                return batch.wait()
        return self._begin(rows).wait()

    def close(self) -> None:
        """End the threads."""
        self._announced.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, rows: Tensor) -> _Batch:
        # A fresh pinned buffer for each batch: the allocator hands one out again only after its copy has ended.
        pixels = torch.empty((len(rows), *self._shape), dtype=torch.uint8, pin_memory=self._pinned)
        parts = zip(rows.split(self._task), pixels.split(self._task), strict=True)
        return _Batch(rows, pixels, [self._pool.submit(self._fill, *part) for part in parts])
