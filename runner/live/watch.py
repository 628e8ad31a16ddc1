"""What a folder shows now: the state of its cells, their curves, and what can be said so far, as plain values."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import RequestError, RunError
from runner.live.answer import Answer, Ask, find_answer
from runner.live.curves import PANELS, CurveReader
from runner.records.metrics import METRICS_FILE
from runner.records.printable import printable
from runner.records.progress import duration
from runner.records.run_file import FINISHED, RUN_FILE
from runner.records.run_lock import is_at_work
from runner.records.sweep_cells import is_run, read_asked
from runner.records.sweep_table import OF_THE_SWEEP, TRIALS_FILE, TableWriter, read_overrides
from runner.report.cells import REPEATS
from runner.report.document import REPORT_FILE
from runner.report.recipes import label_of
from runner.report.search_words import short
from runner.report.title import which
from runner.sweeping.cell_progress import CellProgress, CellProgressReader, read_cell_record
from runner.sweeping.selection_file import is_drawn

_AGAIN_AFTER = 0.5
"""Seconds for which a look counts as new."""
_ANSWER_SHARE = 0.05
"""Of the time, at most, that goes into working out the answer: the cells need the machine."""
_QUIET = 5.0
"""Seconds without a change after which a search, which holds no lock between two trials, counts as ended."""
_MOST_CELLS = 200
_MOST_CURVES = 60
_STATES = {"not_started": "waiting", "completed": "done", "budget_exhausted": "done"}


@dataclass(frozen=True)
class Snapshot:
    """The folder at a moment."""

    version: str
    """Changes with the content."""
    content: bytes
    """JSON."""


@dataclass(frozen=True)
class _Cell:
    name: str
    folder: Path
    overrides: dict[str, str]
    status: str
    figures: dict[str, str]
    """The row of ``table.csv``; empty for a cell that has not begun."""


class Watch:
    """Looks at a folder again and again; only what has changed is read anew.  Several threads may ask."""

    def __init__(self, folder: Path, ask: Ask) -> None:
        """``folder`` is that of a sweep, a search or a run, and may be empty so far."""
        self._folder = folder
        self._ask = ask
        self._table = TableWriter(folder)
        self._curves: dict[str, CurveReader] = {}
        self._progress: dict[str, CellProgressReader] = {}
        self._answer = Answer()
        self._answered: object = None
        self._next_answer = 0.0
        self._latest: Snapshot | None = None
        self._looked = 0.0
        self._lock = threading.Lock()

    def look(self) -> Snapshot:
        """The folder as it is now, or was half a second ago."""
        with self._lock:
            if self._latest is None or time.monotonic() - self._looked > _AGAIN_AFTER:
                content = json.dumps(_shown(self._read()), allow_nan=False).encode()
                self._latest = Snapshot(hashlib.sha256(content).hexdigest()[:16], content)
                self._looked = time.monotonic()
            return self._latest

    def _read(self) -> dict[str, Any]:
        cells = self._cells()
        changed = max((_changed(cell.folder) for cell in cells), default=0.0)
        at_work = {cell.name for cell in cells if cell.status == "running" and is_at_work(cell.folder)}
        counts = Counter(_state(cell, at_work) for cell in cells)
        phase = (
            "running" if at_work or is_at_work(self._folder)
            else "waiting" if not cells
            else "running" if self._is_between_trials(changed)
            else "ended"
        )  # fmt: skip
        found: dict[str, Any] = {
            "phase": phase,
            "counts": ", ".join(f"{number} {state}" for state, number in counts.items()),
            "changed": changed,
            "report": (self._folder / REPORT_FILE).is_file(),
        }
        if is_drawn(self._folder):
            hidden = "Trials of a sweep with random stopping: nothing of them may be seen but the best, at the end."
            return (
                found | {"counts": ""} | Answer(verdict=hidden).plain() | {"cells": None, "panels": [], "recipes": []}
            )
        self._find_answer(cells, phase)
        by = self._answer.by or _telling(cells)
        title = {"title": which(by)} if by else {}
        found |= self._answer.plain() | title
        return found | self._tabulate(cells, at_work) | self._draw(cells, at_work, by)

    def _cells(self) -> list[_Cell]:
        if is_run(self._folder) and not (self._folder / "multirun.yaml").exists():
            return [self._single_run()]
        table = self._table.read()
        cells = []
        for row in table.rows:
            overrides = {key: row[key] for key in table.overridden if row[key]}
            cells.append(_Cell(row["cell"], self._folder / row["cell"], overrides, row["status"], row))
        known = {cell.name for cell in cells}
        for name, typed in (read_asked(self._folder) or {}).items():
            if name not in known and typed is not None:
                pairs = [line.lstrip("+").partition("=") for line in typed]
                overrides = {key: value for key, _, value in pairs if key not in OF_THE_SWEEP}
                cells.append(_Cell(name, self._folder / name, overrides, "not_started", {}))
        return cells

    def _single_run(self) -> _Cell:
        record = read_cell_record(self._folder)
        try:
            overrides = read_overrides(self._folder)
        except RunError:
            overrides = {}
        if record is None:
            status = "unreadable" if (self._folder / RUN_FILE).exists() else "not_started"
            return _Cell(self._folder.name, self._folder, overrides, status, {})
        figures = {
            "val_accuracy": _text(record.metrics.val_accuracy),
            "val_loss": _text(record.metrics.val_loss),
            "seconds": _text(record.seconds),
            "error": record.error or "",
        }
        return _Cell(record.name, self._folder, overrides, record.status, figures)

    def _find_answer(self, cells: list[_Cell], phase: str) -> None:
        state = (phase == "ended", tuple((cell.name, cell.status) for cell in cells))
        if state == self._answered or time.monotonic() < self._next_answer or not cells:
            return
        begun = time.monotonic()
        try:
            self._answer = find_answer(self._folder, self._ask)
        except (RequestError, RunError) as error:
            if any(cell.status != "not_started" for cell in cells):
                self._answer = Answer(verdict=f"No answer so far: {error}.")
        now = time.monotonic()
        self._answered, self._next_answer = state, now + (now - begun) / _ANSWER_SHARE

    def _is_between_trials(self, changed: float) -> bool:
        return (self._folder / TRIALS_FILE).exists() and time.time() - changed < _QUIET

    def _tabulate(self, cells: list[_Cell], at_work: set[str]) -> dict[str, Any]:
        """A row a cell: what tells it apart, how it stands, and what it reached."""
        keys = _varied(cells)
        urgent = sorted(cells, key=lambda cell: _ORDER.get(_state(cell, at_work), 1))
        shown = {cell.name for cell in urgent[:_MOST_CELLS]}
        rows = []
        for cell in cells:
            if cell.name in shown:
                what = [cell.overrides.get(key, "-") for key in keys] or [cell.name]
                rows.append([*what, *self._standing(cell, at_work)])
        heads = _short(keys) or ["run"]
        return {
            "cells": {"head": [*heads, "state", "epoch", "validation", "time"], "words": [*heads, "state"],
                      "rows": rows, "hidden": len(cells) - len(rows)}
        }  # fmt: skip

    def _standing(self, cell: _Cell, at_work: set[str]) -> list[str]:
        state, figures = _state(cell, at_work), cell.figures
        if state != "running":
            self._progress.pop(cell.name, None)
            value = _figure(_number(figures.get("val_accuracy")), _number(figures.get("val_loss")))
            seconds = _number(figures.get("seconds"))
            told = f"{state}: {figures['error']}" if figures.get("error") else state
            return [told, "", value, "" if seconds is None else duration(seconds)]
        reader = self._progress.setdefault(cell.name, CellProgressReader(cell.folder))
        try:
            at = reader.refresh()
        except (KeyError, TypeError, ValueError, ArithmeticError):  # a plan of another version, or a stranger's
            at = CellProgress()
        epoch = "" if at.epoch is None else f"{at.epoch} of {at.epochs}"
        left = "" if at.seconds_left is None else f"{duration(at.seconds_left)} left"
        return [state, epoch, _figure(at.val_accuracy, at.val_loss), left]

    def _draw(self, cells: list[_Cell], at_work: set[str], by: Sequence[str]) -> dict[str, Any]:
        """The curves of the cells, those under way first, in the colours of their recipes."""
        order = sorted(cells, key=lambda cell: _state(cell, at_work) != "running")
        labels = {}
        for cell in cells:
            values = [cell.overrides.get(key) for key in by]
            if self._answer.searched:  # its values have many digits
                values = [value and short(value) for value in values]
            labels[cell.name] = label_of(by, values)
        recipes = list(dict.fromkeys(labels.values()))
        panels: list[dict[str, Any]] = [{"title": title, "curves": []} for title, _, _ in PANELS]
        for cell in order[:_MOST_CURVES]:
            found = self._curves.setdefault(cell.name, CurveReader(cell.folder)).refresh()
            for panel in panels:
                if points := found[panel["title"]]:
                    recipe = recipes.index(labels[cell.name])
                    panel["curves"].append(
                        {"recipe": recipe, "live": cell.name in at_work, "name": cell.name, "points": points}
                    )
        drawn = [panel for panel in panels if panel["curves"]]
        # a loss is drawn where there is no accuracy
        return {"panels": drawn[:2], "recipes": recipes, "undrawn": max(0, len(cells) - _MOST_CURVES)}


_ORDER = {"running": 0, "failed": 0, "stopped": 0, "waiting": 2}


def _state(cell: _Cell, at_work: set[str]) -> str:
    if cell.status == "running" and cell.name not in at_work:
        return "stopped"
    return "done" if cell.status in FINISHED else _STATES.get(cell.status, cell.status)


def _varied(cells: Sequence[_Cell]) -> list[str]:
    typed = dict.fromkeys(key for cell in cells for key in cell.overrides)
    return [key for key in typed if len({cell.overrides.get(key) for cell in cells}) > 1]


def _telling(cells: Sequence[_Cell]) -> tuple[str, ...]:
    """As few keys as tell the recipes apart, those that have not begun too; of several, the first one typed."""

    def recipes(keys: Sequence[str]) -> int:
        return len({tuple(cell.overrides.get(key) for key in keys) for cell in cells})

    found = [key for key in _varied(cells) if key not in REPEATS]
    for key in reversed(found):
        fewer = [other for other in found if other != key]
        if recipes(fewer) == recipes(found):
            found = fewer
    return tuple(found)


def _short(keys: Sequence[str]) -> list[str]:
    """The last word of each key, where that says which it is."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for word, key in zip(last, keys, strict=True)]


def _figure(accuracy: float | None, loss: float | None) -> str:
    if accuracy is not None:
        return f"{100 * accuracy:.2f} %"
    return "" if loss is None else f"loss {loss:.4f}"


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _text(value: float | None) -> str:
    return "" if value is None else str(value)


def _changed(folder: Path) -> float:
    return max(_mtime(folder / RUN_FILE), _mtime(folder / METRICS_FILE))


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _shown(value: Any) -> Any:
    """``value`` with every text in it as it can be shown."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value
