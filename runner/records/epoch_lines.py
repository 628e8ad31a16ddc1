"""The epochs that get a line on the console: all, or about one a second of very short ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.records.progress import Progress

_ALL = 100
"""Epochs that are told of whatever they take."""
_SECONDS = 1.0


class EpochLines:
    """Holds back the lines of epochs that follow each other too fast to be read; the records have all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._told, self._latest = 0, 0.0
        self._last: Progress | None = None
        self._best: Progress | None = None

    def is_due(self, progress: Progress, *, best: bool) -> bool:
        """Whether the line of this epoch, the ``best`` so far or not, is shown now; if not, it is held back."""
        now = self._clock()
        due = self._told < _ALL or now - self._latest >= _SECONDS
        if due:
            self._told, self._latest = self._told + 1, now
        self._last = None if due else progress
        if best:
            self._best = self._last
        return due

    def rest(self) -> list[Progress]:
        """Of what was held back the best epoch and the last one, once the run has ended."""
        held = [self._best, self._last] if self._best is not self._last else [self._last]
        self._best = self._last = None
        return [progress for progress in held if progress is not None]
