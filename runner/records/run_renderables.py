"""What a terminal and a notebook draw of a run: its progress line and its result."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.records.progress import Progress, Waiting, progress_figures

_BAR_WIDTH = 6
"""Columns of the smallest progress bar that says something: figures make room for it."""


def print_result(name: str, status: tuple[str, str], rows: Sequence[tuple[str, str]], *, files: str) -> None:
    """Print how the run ``name`` ended on standard output.

    Args:
        name: of the run.
        status: in words, and their style.
        rows: names and values of what it measured.
        files: where they are.
    """
    terminal = Console(highlight=False)
    title = Text.assemble((name, "bold"), ": ", status)
    table = Table(box=box.ROUNDED, show_header=False, title=title, title_justify="left", border_style="dim")
    table.add_column(style="dim")
    table.add_column()
    for row, value in rows:
        table.add_row(row, Text(value, style="bold" if row == "test accuracy" else ""))
    terminal.print(table if rows else title)
    # Soft wrap: a long path stays one piece for the clipboard.
    terminal.print(f"Files: {files}", markup=False, soft_wrap=True)


def waiting_line(waiting: Waiting) -> Text:
    """What a run that does not train yet, or no more, waits for."""
    return Text(f"{waiting} ...", style="dim", no_wrap=True, overflow="ellipsis")


def progress_line(progress: Progress, width: int) -> Table:
    """How far the run is, in a line of ``width`` columns."""
    head = f"Epoch {progress.epoch}/{progress.epochs}"
    figures = progress_figures(progress, width - len(head) - _BAR_WIDTH - 2)
    line = Table.grid(expand=True, padding=(0, 1, 0, 0), pad_edge=False)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    bar = ProgressBar(total=progress.steps, completed=progress.step)
    line.add_row(Text(head, style="bold"), bar, Text(figures))
    return line
