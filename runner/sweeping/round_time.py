"""The time that a round of cells will take, from what earlier cells took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from runner.records.run_file import FINISHED, RunRecord

Records = Mapping[int, RunRecord]
"""Number -> record of a cell."""


class RoundTime:
    """Measures cells by the clock, and predicts the next ones."""

    def __init__(self, *, at_a_time: int, columns: int) -> None:
        """Cells run ``at_a_time``; those whose numbers differ by a multiple of ``columns`` repeat each other."""
        self._columns = columns
        self._begun = time.monotonic()
        self._earlier = 0.0
        self._pace = 1.0 / at_a_time
        """Seconds on the clock for a second of a cell: below 1 where several run at a time."""
        self._seconds: dict[int, float] = {}
        """Number -> seconds of each cell that has finished."""

    def resume(self, records: Records) -> None:
        """Take in the cells that earlier starts of the sweep have left."""
        self._take_in(records)
        self._earlier += self._pace * sum(record.seconds or 0.0 for record in records.values())

    @property
    def spent(self) -> float:
        """Seconds that the sweep has taken, earlier starts included."""
        return self._earlier + time.monotonic() - self._begun

    @contextlib.contextmanager
    def measured(self, find_records: Callable[[], Records]) -> Iterator[None]:
        """Measure the cells that run meanwhile; ``find_records`` reads what is there of them."""
        before, begun = set(self._seconds), time.monotonic()
        yield
        self._take_in(find_records())
        new = sum(seconds for number, seconds in self._seconds.items() if number not in before)
        if new > 0:
            self._pace = (time.monotonic() - begun) / new

    def predict(self, numbers: Sequence[int]) -> float | None:
        """Seconds on the clock for the cells ``numbers``; None as long as nothing was measured."""
        if not self._seconds:
            return None
        repeats: dict[int, list[float]] = {}
        for number, seconds in self._seconds.items():
            repeats.setdefault(number % self._columns, []).append(seconds)
        any_cell = list(self._seconds.values())
        return self._pace * sum(fmean(repeats.get(number % self._columns, any_cell)) for number in numbers)

    def _take_in(self, records: Records) -> None:
        for number, record in records.items():
            if record.status in FINISHED and record.seconds is not None:
                self._seconds[number] = record.seconds
