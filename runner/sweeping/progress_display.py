"""The display of a sweep under way: a live table on a terminal, a line a cell anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from runner.environment.launchers import launched
from runner.errors import ExitCode, plainly
from runner.execution.attempt import Attempt
from runner.records.console import put
from runner.records.progress import duration
from runner.records.run_file import RunRecord
from runner.records.screen import Screen, find_screen
from runner.sweeping.cell import Cell
from runner.sweeping.cell_progress import CellProgressReader, read_cell_record
from runner.sweeping.cells_table import CellRow, cells_table

if TYPE_CHECKING:
    from rich.console import RenderableType

_FRAME_LINES = 8
"""Of the table, that are no cells."""


class ProgressDisplay(Protocol):
    """Shows a sweep to a person."""

    def begin_round(self, words: str) -> None:
        """A round of a sweep that runs until it is decided starts; ``words`` describe it."""

    def begin(self, cell: Cell) -> None:
        """A cell starts."""

    def refresh(self) -> None:
        """Some time has passed."""

    def end(self, cell: Cell, attempt: Attempt) -> None:
        """A cell has ended."""

    def skip(self, cell: Cell, attempt: Attempt) -> None:
        """A cell had ended before the sweep was started again."""

    def close(self) -> None:
        """The sweep is over; again is allowed."""


def make_display(total: int | None, *, searched: bool = False) -> ProgressDisplay:
    """Return the live table if a person sees it, else plain lines; ``total`` is the number of cells, where it is known.

    Of the trials of a search (``searched``) no test figures are shown.
    """
    # under torchrun the cells run in this process and show themselves
    screen = None if launched() else find_screen()
    return PlainDisplay(total, searched=searched) if screen is None else LiveDisplay(total, screen)


class PlainDisplay:
    """A line on standard output when a cell starts and one when it ends, with its number, which its folder has too."""

    def __init__(self, total: int | None, *, searched: bool) -> None:
        """As for ``make_display``."""
        self._total, self._ended, self._told = total, 0, False
        self._searched = searched

    def begin_round(self, words: str) -> None:
        """Describe it."""
        put(sys.stdout, words)

    def begin(self, cell: Cell) -> None:
        """Name the cell."""
        self._count_from_0()
        put(sys.stdout, f"[{cell.label}] {cell.name}")

    def refresh(self) -> None:
        """Show nothing: a log has no use for it."""

    def end(self, cell: Cell, attempt: Attempt) -> None:
        """Say how it ended, and what the cell warned of."""
        record = read_cell_record(cell.folder)
        notes = [] if record is None else [f"warning: {note}" for note in record.notes]
        self._ended += 1
        counted = "" if self._total is None else f" ({self._ended} of {self._total} done)"
        put(
            sys.stdout,
            *(
                f"[{cell.label}] {line}"
                for line in (*notes, f"{_outcome(attempt, record, tested=not self._searched)}{counted}")
            ),
        )

    def skip(self, cell: Cell, attempt: Attempt) -> None:
        """Say what became of it then."""
        self._count_from_0()
        self._ended += 1
        put(sys.stdout, f"[{cell.label}] {cell.name}: {_earlier(attempt)}")

    def close(self) -> None:
        """Nothing is left to do."""

    def _count_from_0(self) -> None:
        """Say once, before the first cell, what the numbers are."""
        if self._total is not None and self._total > 1 and not self._told:
            put(sys.stdout, f"{self._total} cells, numbered from 0 like their folders")
        self._told = True


class LiveDisplay:
    """A table that renews itself: counts, the cells under way, the latest that ended, and the best so far."""

    def __init__(self, total: int | None, screen: Screen) -> None:
        """Show it on ``screen``; ``total`` is the number of cells, where it is known."""
        self._screen = screen
        self._begun = time.monotonic()
        self._total = total
        self._running: dict[int, tuple[Cell, CellProgressReader]] = {}
        self._ended: deque[CellRow] = deque(maxlen=100)
        self._counts = {"done": 0, "failed": 0, "refused": 0}
        self._best: tuple[float, str] | None = None
        self._round = ""

    def begin_round(self, words: str) -> None:
        """Say it above the table."""
        self._round = f"{words}; "
        self.refresh()

    def begin(self, cell: Cell) -> None:
        """Watch the cell's files."""
        self._running[cell.number] = cell, CellProgressReader(cell.folder)
        self.refresh()

    def refresh(self) -> None:
        """Draw the table anew."""
        self._screen.draw(self._table())

    def end(self, cell: Cell, attempt: Attempt) -> None:
        """Move the cell to those that ended; what went wrong stays above the table."""
        _, watch = self._running.pop(cell.number)
        record = read_cell_record(cell.folder)
        for note in () if record is None else record.notes:
            self._screen.print(f"cell {cell.label}: warning: {note}", "yellow")
        self._close_row(cell, attempt, record, duration(watch.seconds))

    def skip(self, cell: Cell, attempt: Attempt) -> None:
        """Count the cell with those that ended."""
        self._close_row(cell, attempt, read_cell_record(cell.folder), "before")

    def close(self) -> None:
        """Remove the table: the final one takes its place."""
        self._screen.close()

    def _close_row(self, cell: Cell, attempt: Attempt, record: RunRecord | None, when: str) -> None:
        failed = attempt.error is not None
        how = "failed" if attempt.refusal is None else "refused"
        self._counts[how if failed else "done"] += 1
        if failed:
            self._screen.print(f"cell {cell.label} ({cell.name}): {attempt.error}", "red")
        state = how if failed else "interrupted" if attempt.exit_code == ExitCode.INTERRUPTED else "done"
        value = None if record is None else _figure(record.metrics.val_accuracy, record.metrics.val_loss)
        figure = "" if value is None else value[1]
        self._ended.append(CellRow(cell.label, cell.name, state=state, validation=figure, time=when))
        if value is not None and not failed and (self._best is None or value[0] > self._best[0]):
            self._best = value[0], f"{value[1]} in cell {cell.label} ({cell.name})"
        self.refresh()

    def _table(self) -> RenderableType:
        room = max(1, shutil.get_terminal_size().lines - _FRAME_LINES - len(self._running))
        rows = list(self._ended)[-room:] + [_running_row(cell, watch) for cell, watch in self._running.values()]
        caption = "" if self._best is None else f"best so far: {self._best[1]}"
        return cells_table(rows, self._screen.width, title=self._headline(), caption=caption)

    def _headline(self) -> str:
        counts = {"running": len(self._running)} | self._counts
        if self._total is not None:
            counts["waiting"] = self._total - sum(counts.values())
        summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{self._round}cells: {summary}; {duration(time.monotonic() - self._begun)}"


def _running_row(cell: Cell, watch: CellProgressReader) -> CellRow:
    at = watch.refresh()
    found = _figure(at.val_accuracy, at.val_loss)
    return CellRow(
        cell.label,
        cell.name,
        state="starting" if at.epoch is None else "running",
        epoch="" if at.epoch is None else f"{at.epoch}/{at.epochs}",
        validation="" if found is None else found[1],
        time=duration(watch.seconds) if at.seconds_left is None else f"{duration(at.seconds_left)} left",
    )


def _figure(accuracy: float | None, loss: float | None) -> tuple[float, str] | None:
    """What is better the higher it is, and how it is said."""
    if accuracy is not None:
        return accuracy, f"{accuracy:.2%}"
    return None if loss is None else (-loss, f"loss {loss:.4f}")


def _outcome(attempt: Attempt, record: RunRecord | None, *, tested: bool) -> str:
    if attempt.error is not None:
        return f"{'failed' if attempt.refusal is None else 'refused'}: {attempt.error}"
    if attempt.exit_code == ExitCode.INTERRUPTED:
        return "interrupted; the same command goes on"
    assert record is not None
    pruned, metrics = record.status == "pruned", record.metrics
    status = f"stopped after epoch {plainly(record.epochs)}" if pruned else str(record.status)
    split, accuracy = ("test", metrics.test_accuracy) if tested and not pruned else ("val", metrics.val_accuracy)
    figure = "" if accuracy is None else f"{split} acc {accuracy:.2%}"
    return ", ".join(filter(None, [status, figure, duration(record.seconds or 0)]))


def _earlier(attempt: Attempt) -> str:
    if attempt.error is not None:
        return f"failed before: {attempt.error} (retry_failed=true runs it again)"
    return "finished before"
