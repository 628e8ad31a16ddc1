"""Console output of a run: progress on standard error, the result on standard output.

The two are kept apart so that ``python -m runner > result.txt`` holds the result alone.  A terminal gets a line that
moves with time, from the first moment on, and says what the run waits for; anything else (a file, a pipe, a CI log)
gets one plain line an epoch, as long as they can be read; ranks other than the first are silent.  The reader may go
away, as when a connection drops or a pipe is closed: the run does not stop for that.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from runner.environment.text_encoding import encodable_text
from runner.records.epoch_lines import EpochLines
from runner.records.line_wrapping import wrapped
from runner.records.progress import (
    NOT_PRIVATE,
    Progress,
    Waiting,
    budget_text,
    duration,
    epoch_line,
    rate_text,
)
from runner.records.run_file import FINISHED, PrivacySpent, RunRecord
from runner.records.screen import Screen, find_screen


class Console(Protocol):
    """Shows a run to a person."""

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Say what will be run."""

    def wait(self, what: str) -> None:
        """Show that the run waits for ``what``, until it is told otherwise or trains."""

    def train(self, progress: Callable[[], Progress]) -> None:
        """Show from now on what ``progress`` returns, which may be called at any time and from any thread."""

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Leave a lasting line about an epoch that has ended, the best so far or not, unless there are too many."""

    def note(self, message: str) -> None:
        """Show a warning; may be called from any thread."""

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Show the result and where the files are."""

    def close(self) -> None:
        """Remove what renews itself; again is allowed."""


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

    def wait(self, what: str) -> None:
        """Show nothing."""

    def train(self, progress: Callable[[], Progress]) -> None:
        """Show nothing."""

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is left to do."""


class PlainConsole:
    """One line an epoch, for logs."""

    def __init__(self, prints_result: bool = True) -> None:
        """Write to the standard streams of each moment; the result too, if ``prints_result``."""
        self._lines = EpochLines()
        self._prints_result = prints_result

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Say what will be run."""
        put(sys.stderr, title, *(f"  {line}" for line in plan_lines))

    def wait(self, what: str) -> None:
        """Show nothing: a log has no use for it."""

    def train(self, progress: Callable[[], Progress]) -> None:
        """Show nothing: a log has no use for it."""

    def epoch(self, progress: Progress, *, best: bool = False) -> None:
        """Write the epoch's line."""
        if self._lines.is_due(progress, best=best):
            self._put_epoch(progress)

    def _put_epoch(self, progress: Progress) -> None:
        put(sys.stderr, epoch_line(progress, _columns(sys.stderr)))

    def note(self, message: str) -> None:
        """Write a warning."""
        put(sys.stderr, f"warning: {message}")

    def finish(self, run: RunRecord, run_dir: Path) -> None:
        """Write the result as aligned lines."""
        for progress in self._lines.rest():
            self._put_epoch(progress)
        if not self._prints_result:
            put(sys.stderr, ending_line(run))
            return
        rows = result_rows(run)
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"  {name:<{width}}  {value}" for name, value in rows]
        put(sys.stdout, f"{run.name}: {_status(run)}", *lines, f"Files: {_short(run_dir)}")

    def close(self) -> None:
        """Nothing is left to do."""


class ScreenConsole:
    """A line that renews itself under the lines of the epochs: what the run waits for, then its progress."""

    def __init__(self, screen: Screen, prints_result: bool = True) -> None:
        """Show it on ``screen``, and the result on standard output, if ``prints_result``."""
        from runner.records import run_renderables

        self._renderables = run_renderables
        self._screen = screen
        self._prints_result = prints_result
        self._lines = EpochLines()

    def start(self, title: str, plan_lines: Sequence[str]) -> None:
        """Say what will be run."""
        self._screen.print(title, "bold")
        for line in plan_lines:
            self._screen.print(f"  {line}", "dim")

    def wait(self, what: str) -> None:
        """Show what the run waits for, and how long by now."""
        waiting = Waiting(what)
        self._screen.animate(lambda: self._renderables.waiting_line(waiting))

    def train(self, progress: Callable[[], Progress]) -> None:
        """Show the progress at each moment."""
        self._screen.animate(lambda: self._renderables.progress_line(progress(), self._screen.width))

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

    def close(self) -> None:
        """Remove the progress line; again is allowed."""
        self._screen.close()

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
        ("best epoch", None if metrics.best_epoch is None else f"{metrics.best_epoch}{_optimism(run)}"),
        ("train loss", None if metrics.train_loss is None else f"{metrics.train_loss:.4f}"),
        ("privacy", f"void: {run.void}" if run.void else None if spent is None else _privacy(spent)),
        ("throughput", None if speed is None else f"{rate_text(speed)} images/s"),
        ("peak memory", None if peak is None else f"{peak / 2**20:,.0f} MiB"),
        ("skipped steps", str(run.skipped_steps) if run.skipped_steps else None),
        ("time", None if run.seconds is None else duration(run.seconds)),
        ("error", run.error),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _optimism(run: RunRecord) -> str:
    return ", chosen by validation: val figures are optimistic" if run.epochs > 1 else ""


def _privacy(spent: PrivacySpent) -> str:
    if spent.epsilon is None or not math.isfinite(spent.epsilon):
        return f"{NOT_PRIVATE}: privacy.unsafe_noise_seed"
    return f"{budget_text(spent.epsilon, spent.delta)} ({spent.accountant})"


def _status(run: RunRecord) -> str:
    return run.status.replace("_", " ")


def put(stream: TextIO, *lines: str) -> None:
    """Write lines to a stream that may lack letters of theirs, and whose reader may go away at any time.

    On a terminal, which would break them within words, they are wrapped.
    """
    if (columns := _columns(stream)) is not None:
        lines = tuple(piece for line in lines for piece in wrapped(line, columns))
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


def _columns(stream: TextIO) -> int | None:
    """Columns of the terminal that reads ``stream``; None where there is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
