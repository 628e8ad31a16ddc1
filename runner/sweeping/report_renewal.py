"""The report of a sweep under way: written anew as its cells end, in a bounded share of the time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

SECONDS_BETWEEN = 30.0
"""Between two reports of a sweep, at least, whichever of its processes write them."""
LARGEST_SHARE = 0.05
"""Of the time of a process, after its first report, which loads scipy and matplotlib."""

WriteReport = Callable[[Path], object]
"""Writes the report of the sweep in a folder."""


class ReportRenewal:
    """Writes the report of one sweep again and again."""

    def __init__(self, write: WriteReport, page: Path) -> None:
        """``write`` takes the folder of ``page``, the file of the report; the first one is due after some time."""
        self._write, self._page = write, page
        self._seconds = 0.0
        self._latest = time.time()

    def cell_ended(self) -> None:
        """Write the report, if it is time to, before the next cell starts: no cell's measurements are disturbed.

        Where it cannot be written, the end of the sweep, which writes it once more, says why.
        """
        if self._seconds_old() < max(SECONDS_BETWEEN, self._seconds / LARGEST_SHARE):
            return
        begun = time.monotonic()
        # nothing that is wrong with a report may harm a cell
        with contextlib.suppress(Exception):
            self._write(self._page.parent)
        self._seconds, self._latest = time.monotonic() - begun, time.time()

    def _seconds_old(self) -> float:
        try:
            written = self._page.stat().st_mtime  # by any process
        except OSError:
            written = 0.0
        return time.time() - max(written, self._latest)
