"""``table.csv`` of a sweep: one row a cell, made from the cells' own files and from nothing else."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from runner.config.errors import RunError
from runner.records.files import write_text
from runner.records.progress import epsilon_text
from runner.records.run_file import RunRecord, read_run

if TYPE_CHECKING:
    from rich.table import Table

TABLE_FILE = "table.csv"
_OVERRIDES_FILE = Path(".hydra", "overrides.yaml")

_METRICS = ("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
_MEASURED = ("status", *_METRICS, "seconds", "samples_per_second", "peak_bytes", "epsilon", "delta", "error")

_Figure = tuple[str, str, Callable[[float], str]]
"""What a terminal shows of a column: (name, column, form)."""

_FIGURES: tuple[_Figure, ...] = (
    ("test acc", "test_accuracy", lambda value: f"{value:.2%}"),
    ("val acc", "val_accuracy", lambda value: f"{value:.2%}"),
    ("images/s", "samples_per_second", lambda value: f"{value:,.0f}"),
    ("MiB", "peak_bytes", lambda value: f"{value / 2**20:,.0f}"),
    ("ε", "epsilon", epsilon_text),
)


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """The cells of a sweep.  Every value is text as it stands in the CSV; empty where there is none."""

    columns: tuple[str, ...]
    """``cell``, a column for each overridden key, then the status, metrics, cost, privacy and error."""
    rows: tuple[dict[str, str], ...]

    @property
    def overridden(self) -> tuple[str, ...]:
        """The columns of overridden keys."""
        return self.columns[1 : -len(_MEASURED)]


def write_table(sweep_dir: Path) -> SweepTable:
    """Read every cell under ``sweep_dir`` and replace ``table.csv`` there, atomically.

    A cell is a folder with a ``run.json`` or a ``.hydra`` folder.  One that has not started, or whose ``run.json``
    cannot be read, has a row too: a table that hides its failures would mislead.
    """
    table = read_cells(sweep_dir)
    text = io.StringIO()
    writer = csv.DictWriter(text, table.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    write_text(sweep_dir / TABLE_FILE, text.getvalue())
    return table


def read_cells(sweep_dir: Path) -> SweepTable:
    """Return the table of the cells that lie under ``sweep_dir`` now, in the order of their numbers."""
    cells = [folder for folder in sweep_dir.iterdir() if _is_cell(folder)]
    cells.sort(key=lambda folder: [(len(digits), digits, other) for digits, other in _pieces(folder.name)])
    overrides = {cell: read_overrides(cell) for cell in cells}
    keys = dict.fromkeys(key for cell in cells for key in overrides[cell])
    columns = ("cell", *keys, *_MEASURED)
    rows = []
    for cell in cells:
        row = dict.fromkeys(columns, "") | overrides[cell] | _measured(cell) | {"cell": cell.name}
        rows.append(row)
    return SweepTable(columns=columns, rows=tuple(rows))


def render_table(table: SweepTable, width: int) -> str:
    """Return the table for a terminal of ``width`` columns: what differs between cells, results and their cost.

    Where the columns are too few, costs are left out first: they are in ``table.csv``.
    """
    from rich.console import Console
    from rich.measure import Measurement

    page = io.StringIO()
    console = Console(file=page, width=width, highlight=False, color_system=None)
    figures = [figure for figure in _FIGURES if any(row[figure[1]] for row in table.rows)]
    shown = _layout(table, figures)
    for spare in ("peak_bytes", "samples_per_second", "val_accuracy"):
        if Measurement.get(console, console.options.update(max_width=10 * width), shown).maximum <= width:
            break
        figures = [figure for figure in figures if figure[1] != spare]
        shown = _layout(table, figures)
    console.print(shown)
    for row in table.rows:
        if row["error"]:
            console.print(f"{row['cell']}: {row['error']}", markup=False, soft_wrap=True)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def _layout(table: SweepTable, figures: Sequence[_Figure]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    varied = [key for key in table.overridden if len({row[key] for row in table.rows}) > 1]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("cell", *(key.rpartition(".")[2] for key in varied), "status"):
        shown.add_column(name, overflow="fold")
    for name, _, _ in figures:
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        names = (row["cell"], *(row[key] for key in varied), row["status"].replace("_", " "))
        numbers = (form(float(row[key])) if row[key] else "" for _, key, form in figures)
        shown.add_row(*map(Text, names), *numbers)
    return shown


def _is_cell(folder: Path) -> bool:
    return folder.is_dir() and ((folder / "run.json").exists() or (folder / ".hydra").is_dir())


def _pieces(name: str) -> list[tuple[str, str]]:
    """``name`` cut so that 10 sorts after 9: pairs of (number without leading zeros, text after it)."""
    return [(digits.lstrip("0"), other) for digits, other in re.findall(r"(\d*)(\D*)", name)]


def read_overrides(cell: Path) -> dict[str, str]:
    """Key -> value, as typed, of what a run's command line, or its sweep, set."""
    path = cell / _OVERRIDES_FILE
    if not path.exists():
        return {}
    found = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    pairs = (override.partition("=") for override in found)
    # `+key` and `++key` add a key; `~key` removes one, and keeps its mark, for it says something else.
    return {key.lstrip("+"): value for key, _, value in pairs}


def _measured(cell: Path) -> dict[str, str]:
    try:
        run = read_run(cell)
    except FileNotFoundError:
        return {"status": "not_started"}
    except RunError as error:
        return {"status": "unreadable", "error": _one_line(str(error))}
    return {key: "" if value is None else _one_line(str(value)) for key, value in _values(run).items()}


def _values(run: RunRecord) -> dict[str, object]:
    return {
        "status": run.status,
        **{key: getattr(run.metrics, key) for key in _METRICS},
        "seconds": run.seconds,
        "samples_per_second": run.throughput.samples_per_second,
        "peak_bytes": run.memory.peak_bytes,
        "epsilon": None if run.privacy is None else run.privacy.epsilon,
        "delta": None if run.privacy is None else run.privacy.delta,
        "error": run.error,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())
