"""Console output of a run: progress on standard error, the result on standard output.

The two are kept apart so that ``python -m runner > result.txt`` holds the result alone.  A terminal gets a line that
renews itself; anything else (a file, a pipe, a CI log) gets one plain line an epoch, as long as they can be read;
ranks other than the first are silent.  The reader may go away, as when a connection drops or a pipe is closed: the run
does not stop for that.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from runner.environment.text_encoding import encodable_text
from runner.records.epoch_lines import EpochLines
from runner.records.progress import (
    NOT_PRIVATE,
    Progress,
    budget_text,
    duration,
    epoch_line,
    rate_text,
)
from runner.records.run_file import FINISHED, PrivacySpent, RunRecord
from runner.records.screen import Screen, find_screen

if TYPE_CHECKING:
    pass


class Console(Protocol):
    """Shows a run to a person."""

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Say what will be run."""

    def step(self, progress: Progress) -> None:
        """Renew the progress line; cheap, for most calls are dropped."""

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Leave a lasting line about an epoch that has ended, the best so far or not, unless there are too many."""

    def note(self, message: str) -> None:
        """Show a warning; may be called from any thread."""

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Show the result and where the files are."""


def make_console(is_main: bool, *, prints_result: bool = True) -> Console:
    """Return the console for this process: silent unless it is the first, a screen if a person sees it, else plain.

    Without ``prints_result`` it ends with a line of how the run ended: the caller has the result as an object.
    """
    # a process may be started with its standard streams closed
    if not is_main or sys.stderr is None or sys.stdout is None:
        return SilentConsole()
    screen = find_screen()
    return PlainConsole(prints_result) if screen is None else ScreenConsole(screen, prints_result)


class SilentConsole:
    """Shows nothing."""

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Show nothing."""

    def step(self, progress: Progress) -> None:
        """Show nothing."""

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Show nothing."""


class PlainConsole:
    """One line an epoch, for logs."""

    def __init__(self, prints_result: bool = True) -> None:
        """Write to the standard streams of each moment; the result too, if ``prints_result``."""
        self._lines = EpochLines()
        self._prints_result = prints_result

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Say what will be run."""
        put(sys.stderr, title, *(f"  {line}" for line in plan_lines))

    def step(self, progress: Progress) -> None:
        """Show nothing: a log has no use for it."""

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Write the epoch's line."""
        if self._lines.is_due(progress, best=best):
            put(sys.stderr, epoch_line(progress))

    def note(self, message: str) -> None:
        """Write a warning."""
        put(sys.stderr, f"warning: {message}")

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Write the result as aligned lines."""
        for progress in self._lines.rest():
            put(sys.stderr, epoch_line(progress))
        if not self._prints_result:
            put(sys.stderr, ending_line(run))
            return
        rows = result_rows(run)
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"  {name:<{width}}  {value}" for name, value in rows]
        put(sys.stdout, f"{run.name}: {_status(run)}", *lines, f"Files: {_short(run_dir)}")


class ScreenConsole:
    """A progress line that renews itself under the lines of the epochs."""

    def __init__(self, screen: Screen, prints_result: bool = True) -> None:
        """Show it on ``screen``, and the result on standard output, if ``prints_result``."""
        from runner.records import run_renderables

        self._renderables = run_renderables
        self._screen = screen
        self._prints_result = prints_result
        self._lines = EpochLines()
        self._drawn = -screen.seconds

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Say what will be run."""
        self._screen.print(title, "bold")
        for line in plan_lines:
            self._screen.print(f"  {line}", "dim")

    def step(self, progress: Progress) -> None:
        """Redraw the line, as often as the screen can use it."""
        now = time.monotonic()
        if now - self._drawn < self._screen.seconds:
            return
        self._drawn = now
        self._screen.draw(self._renderables.progress_line(progress, self._screen.width))

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Leave the epoch's line above the progress line."""
        if self._lines.is_due(progress, best=best):
            self._print_epoch(progress)

    def _print_epoch(self, progress: Progress) -> None:
        self._screen.print(epoch_line(progress, self._screen.width))

    def note(self, message: str) -> None:
        """Show a warning above the progress line."""
        self._screen.print(f"warning: {message}", "yellow")

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Remove the progress line and print the result."""
        for progress in self._lines.rest():
            self._print_epoch(progress)
        self._screen.close()
        if not self._prints_result:
            self._screen.print(ending_line(run), "bold")
        elif not sys.stdout.isatty():
            PlainConsole().finish(run, run_dir)
        else:
            with contextlib.suppress(OSError):  # the reader may go
                self._print_result(run, run_dir)

    def _print_result(self, run: RunRecord, run_dir: Path) -> None:
        color = "green" if run.status in FINISHED else "red" if run.status == "failed" else "yellow"
        status = _status(run), f"bold {color}"
        self._renderables.print_result(run.name, status, result_rows(run), files=_short(run_dir))


def ending_line(run: RunRecord) -> str:
    """How a run ended, such as ``completed, test accuracy 97.50%, 0:12``."""
    accuracy = run.metrics.test_accuracy
    figures = (None if accuracy is None else f"test accuracy {accuracy:.2%}", run.seconds and duration(run.seconds))
    return ", ".join([_status(run), *(figure for figure in figures if figure)])


def result_rows(run: RunRecord) -> list[tuple[str, str]]:
    """Return what the table at the end of a run says: (name, value), what was not measured left out."""
    metrics, spent = run.metrics, run.privacy
    speed, peak = run.throughput.samples_per_second, run.memory.peak_bytes
    rows = [
        ("test accuracy", None if metrics.test_accuracy is None else f"{metrics.test_accuracy:.2%}"),
        ("test loss", None if metrics.test_loss is None else f"{metrics.test_loss:.4f}"),
        ("val accuracy", None if metrics.val_accuracy is None else f"{metrics.val_accuracy:.2%}"),
        ("val loss", None if metrics.val_loss is None else f"{metrics.val_loss:.4f}"),
        ("train loss", None if metrics.train_loss is None else f"{metrics.train_loss:.4f}"),
        ("privacy", f"void: {run.void}" if run.void else None if spent is None else _privacy(spent)),
        ("throughput", None if speed is None else f"{rate_text(speed)} images/s"),
        ("peak memory", None if peak is None else f"{peak / 2**20:,.0f} MiB"),
        ("skipped steps", str(run.skipped_steps) if run.skipped_steps else None),
        ("time", None if run.seconds is None else duration(run.seconds)),
        ("error", run.error),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _privacy(spent: PrivacySpent) -> str:
    if spent.epsilon is None or not math.isfinite(spent.epsilon):
        return f"{NOT_PRIVATE}: privacy.unsafe_noise_seed"
    return f"{budget_text(spent.epsilon, spent.delta)} ({spent.accountant})"


def _status(run: RunRecord) -> str:
    return run.status.replace("_", " ")


def put(stream: TextIO, *lines: str) -> None:
    """Write lines to a stream that may lack letters of theirs, and whose reader may go away at any time."""
    try:
        stream.write("".join(f"{encodable_text(line, stream.encoding or 'utf-8')}\n" for line in lines))
        stream.flush()
    except OSError as error:
        # What is left in the buffer would fail again when the interpreter ends, and turn its exit code into 120.
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, stream.fileno())
        os.close(sink)
        # who closes a pipe, as head does, wants no more words
        if stream is sys.stdout and sys.stderr is not None and not isinstance(error, BrokenPipeError):
            put(
                sys.stderr, f"warning: standard output takes nothing more ({error.strerror}); the run's files are whole"
            )


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
