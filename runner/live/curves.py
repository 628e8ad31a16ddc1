"""The curve of a run, followed while its ``metrics.jsonl`` grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.disk.files import ordinary
from runner.disk.json_files import parse_json
from runner.records.metrics import LARGEST_LINE, METRICS_FILE

Point = tuple[float, float | None]
"""Epoch and value; None where that was not finite."""

PANELS = (("training loss", "train", "loss"), ("validation accuracy (%)", "val", "accuracy"),
          ("validation loss", "val", "loss"))  # fmt: skip
"""Title, kind of record and figure of each curve."""

_MOST_POINTS = 400
"""Of a curve; of a longer one every second is left out, again and again, but not the last."""
_BYTES = 2**22
"""That are read at a look: a longer file is caught up with at the next ones."""


class CurveReader:
    """Reads what was added to a file since the last look, and all of it where it was replaced."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is that of the run, which may have written nothing yet."""
        self._path = folder / METRICS_FILE
        self._file: int | None = None
        self._start()

    def _start(self) -> None:
        self._read = 0
        self._torn = b""
        self._points: dict[str, list[Point]] = {title: [] for title, _, _ in PANELS}
        self._every = dict.fromkeys(self._points, 1)
        self._seen = dict.fromkeys(self._points, 0)
        self._last: dict[str, Point] = {}

    def refresh(self) -> dict[str, list[Point]]:
        """Title of each of ``PANELS`` -> points, in the order of training."""
        try:
            with ordinary(self._path).open("rb") as file:
                found = self._path.stat()
                if found.st_ino != self._file or found.st_size < self._read:
                    self._file = found.st_ino
                    self._start()
                file.seek(self._read)
                added = file.read(_BYTES)
        except OSError:
            return {title: [] for title in self._points}
        self._read += len(added)
        *whole, self._torn = (self._torn + added).split(b"\n")
        self._torn = self._torn[:LARGEST_LINE]
        for line in whole:
            self._take(line)
        return {
            title: [*points, *([self._last[title]] if points and points[-1] != self._last[title] else [])]
            for title, points in self._points.items()
        }

    def _take(self, line: bytes) -> None:
        try:
            record: Any = parse_json(line)
            kind, epoch = record["kind"], float(record["epoch"])
            figures = {(kind, name): record[name] for name in ("loss", "accuracy") if name in record}
        except (ValueError, KeyError, TypeError):
            return  # this is but a display; who goes on from the file says what is wrong with it
        for title, *figure in PANELS:
            if tuple(figure) in figures:
                value = figures[figure[0], figure[1]]
                number = isinstance(value, int | float) and not isinstance(value, bool)
                scale = 100.0 if figure[1] == "accuracy" else 1.0
                self._add(title, (epoch, scale * value if number else None))

    def _add(self, title: str, point: Point) -> None:
        points = self._points[title]
        if self._seen[title] % self._every[title] == 0:
            points.append(point)
        self._seen[title] += 1
        self._last[title] = point
        if len(points) > _MOST_POINTS:
            del points[1::2]
            self._every[title] *= 2
