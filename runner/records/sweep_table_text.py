"""The table of a sweep as text for a terminal."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.sweep_cells import is_confirmation
from runner.records.sweep_table import VOID, SweepTable, warn_foreign_cells


@dataclass(frozen=True)
class _Figure:
    """What a terminal shows of a column."""

    name: str
    column: str
    form: Callable[[float], str]
    over_seeds: Callable[[Sequence[float]], float]
    """One figure for the repeats of a cell."""
    spread: bool = False
    """Whether the standard deviation over the repeats stands beside it."""


_FIGURES = (
    _Figure("test acc", "test_accuracy", lambda value: f"{value:.2%}", statistics.fmean, spread=True),
    _Figure("val acc", "val_accuracy", lambda value: f"{value:.2%}", statistics.fmean, spread=True),
    _Figure("images/s", "samples_per_second", lambda value: f"{value:,.0f}", statistics.fmean),
    _Figure("MiB", "peak_bytes", lambda value: f"{value / 2**20:,.0f}", statistics.fmean),
    _Figure("ε", "epsilon", epsilon_text, max),
)


def render_table(table: SweepTable, width: int) -> str:
    """Return the table for a terminal of ``width`` columns: what differs between cells, results and their cost.

    Cells that differ in nothing but their seed share a line: means, and for accuracies the standard deviation over the
    seeds.  Where the columns are too few, costs are left out first, and then long values are cut: they are in
    ``table.csv``.  Of a search no test figures are shown: a trial that was chosen by them would look better than it is.
    """
    page = io.StringIO()
    # in a notebook rich would show what is printed, and write nothing
    console = Console(file=page, width=width, highlight=False, color_system=None, force_jupyter=False)
    figures = [figure for figure in _FIGURES if any(row[figure.column] for row in table.rows)
               and not (table.searched and figure.column == "test_accuracy")]  # fmt: skip
    shown = _layout(table, figures)
    for spare in ("peak_bytes", "samples_per_second", "val_accuracy"):
        if Measurement.get(console, console.options.update(max_width=10 * width), shown).maximum <= width:
            break
        figures = [figure for figure in figures if figure.column != spare]
        shown = _layout(table, figures)
    console.print(shown)
    for row in table.rows:
        if row["error"]:
            console.print(f"{row['cell']}: {row['error']}", markup=False, soft_wrap=True)
    if table.strangers:
        console.print(warn_foreign_cells(table.strangers), markup=False, soft_wrap=True)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def _layout(table: SweepTable, figures: Sequence[_Figure]) -> Table:
    groups = _repeats(table)
    repeated = any(len(rows) > 1 for rows in groups)
    varied = [key for key in table.overridden if len({row[key] for row in table.rows}) > 1]
    varied = [key for key in varied if not (repeated and key == "seed")]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    # a value is cut rather than broken, for half a number on each of two lines is none; table.csv has it whole
    statuses = [_statuses(rows) for rows in groups]
    shown.add_column("cells" if repeated else "cell", overflow="fold")
    for key in varied:
        shown.add_column(key.rpartition(".")[2], overflow="ellipsis")
    shown.add_column("status", min_width=max((len(word) for text in statuses for word in text.split()), default=0))
    for figure in figures:
        shown.add_column(figure.name, justify="right", no_wrap=True)
    for rows in groups if repeated else [[row] for row in table.rows]:
        cells = ", ".join(dict.fromkeys(_shown_name(row["cell"]) for row in rows))
        names = (cells, *(rows[0][key] for key in varied), _statuses(rows))
        shown.add_row(*map(Text, names), *(_formatted(figure, rows) for figure in figures))
    return shown


def _repeats(table: SweepTable) -> list[list[dict[str, str]]]:
    """The rows, those together that differ in nothing but their seed.

    The best trial of a search was selected by its value, and its runs on fresh seeds were not: they stay apart.
    """
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in table.rows:
        kind = str(is_confirmation(row["cell"]))
        groups.setdefault((kind, *(row[key] for key in table.overridden if key != "seed")), []).append(row)
    return list(groups.values())


def _shown_name(cell: str) -> str:
    """``confirm/7`` for all fresh seeds of trial 7."""
    return cell.rpartition("-seed-")[0] if is_confirmation(cell) else cell


def _statuses(rows: Sequence[dict[str, str]]) -> str:
    counts = Counter(row["status"].replace("_", " ") for row in rows)
    if len(rows) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _formatted(figure: _Figure, rows: Sequence[dict[str, str]]) -> str:
    if any(row[figure.column] == VOID for row in rows):
        return VOID
    values = [float(row[figure.column]) for row in rows if row[figure.column]]
    if not values:
        return ""
    shown = figure.form(figure.over_seeds(values))
    return f"{shown} ± {figure.form(statistics.stdev(values))}" if figure.spread and len(values) > 1 else shown
