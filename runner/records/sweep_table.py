"""``table.csv`` of a sweep: one row a cell, made from the cells' own files and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.config.untrusted.foreign_yaml import load_plain
from runner.disk.files import write_text
from runner.errors import RequestError, RunError
from runner.records.csv_table import to_csv
from runner.records.run_file import RUN_FILE, RunRecord, read_run
from runner.records.sweep_cells import find_cells, is_confirmation

TABLE_FILE = "table.csv"
TRIALS_FILE = "trials.csv"
"""Of a search: what each trial tried and found."""
VOID = "void"
"""In the place of an epsilon that does not hold; the cell's ``run.json`` read by ``read_run`` says why."""
_OVERRIDES_FILE = Path(".hydra", "overrides.yaml")

_METRICS = ("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
_MEASURED = ("status", *_METRICS, "seconds", "samples_per_second", "peak_bytes", "epsilon", "delta", "error")

_MOST_NAMED = 20

OF_THE_SWEEP = ("seeds", "folds", "retry_failed")
"""Keys that say how a sweep is run and not what its cells are."""


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """The cells of a sweep.  Every value is text as it stands in the CSV; empty where there is none."""

    columns: tuple[str, ...]
    """``cell``, a column for each overridden key, then the status, metrics, cost, privacy and error."""
    rows: tuple[dict[str, str], ...]
    unknown: frozenset[str] = frozenset()
    """Cells of which nobody knows what was asked: ``error`` says why."""
    strangers: tuple[str, ...] = ()
    """Folders of runs that are no cells of this sweep, and have no row."""
    searched: bool = False
    """Whether the cells are trials of a search, of which nobody should choose by test figures."""

    @property
    def overridden(self) -> tuple[str, ...]:
        """The columns of overridden keys."""
        return self.columns[1 : -len(_MEASURED)]


def write_table(sweep_dir: Path) -> SweepTable:
    """Read every cell under ``sweep_dir`` and replace ``table.csv`` there, atomically."""
    return TableWriter(sweep_dir).write()


def read_cells(sweep_dir: Path) -> SweepTable:
    """Return the table of the cells that lie under ``sweep_dir`` now, in the order of their numbers."""
    return TableWriter(sweep_dir).read()


class TableWriter:
    """Writes ``table.csv`` again and again while a sweep goes on, and reads only the cells that have changed.

    A cell is a folder with a ``run.json`` or a ``.hydra`` folder.  One that has not started, or whose ``run.json``
    cannot be read, has a row too: a table that hides its failures would mislead.
    """

    def __init__(self, sweep_dir: Path) -> None:
        """``sweep_dir`` is the folder of the sweep."""
        self._sweep_dir = sweep_dir
        self._known: dict[str, _Known] = {}

    def read(self) -> SweepTable:
        """Return the table of the cells that lie there now, in the order of their numbers."""
        found = find_cells(self._sweep_dir)
        cells = sorted(found.cells, key=lambda name: (is_confirmation(name), _in_order(name)))
        for cell in cells:
            folder = self._sweep_dir / cell
            versions = tuple(_version(folder / file) for file in (RUN_FILE, _OVERRIDES_FILE))
            if cell not in self._known or self._known[cell].versions != versions:
                self._known[cell] = _read(folder, versions)
        keys = dict.fromkeys(key for cell in cells for key in self._known[cell].overrides)
        columns = ("cell", *keys, *_MEASURED)
        empty = dict.fromkeys(columns, "")
        rows = [empty | self._known[cell].overrides | self._known[cell].measured | {"cell": cell} for cell in cells]
        return SweepTable(
            columns=columns,
            rows=tuple(rows),
            unknown=frozenset(cell for cell in cells if self._known[cell].unknown),
            strangers=tuple(sorted(found.strangers, key=_in_order)),
            searched=(self._sweep_dir / TRIALS_FILE).exists(),
        )

    def write(self) -> SweepTable:
        """Replace ``table.csv``, atomically, and return what it holds.

        Raises:
            RunError: it cannot be written, because the disk is full, say; what stood there before is left.
        """
        table = self.read()
        path = self._sweep_dir / TABLE_FILE
        try:
            write_text(path, to_csv(table.columns, table.rows))
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
        return table


@dataclass(frozen=True)
class _Known:
    """What was read of a cell, and the versions of the files that it was read from."""

    versions: tuple[object, ...]
    overrides: dict[str, str]
    measured: dict[str, str]
    unknown: bool
    """Whether what was asked of it is unknown."""


def _read(cell: Path, versions: tuple[object, ...]) -> _Known:
    measured = _measured(cell)
    try:
        overrides = read_overrides(cell)
    except RunError as error:
        why = f"what was asked is unknown: {_one_line(str(error))}"
        shown = "; ".join(filter(None, (measured.get("error"), why)))
        return _Known(versions, {}, measured | {"error": shown}, unknown=True)
    return _Known(versions, overrides, measured, unknown=False)


def _version(file: Path) -> tuple[int, int] | None:
    """Changes whenever ``file`` is replaced or written to; None while it does not exist."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def warn_foreign_cells(names: Sequence[str]) -> str:
    """That the runs in these folders are no part of a sweep, in a sentence."""
    shown = ", ".join(names[:_MOST_NAMED]) + (f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else "")
    return f"Not part of this sweep, though they lie in its folder: {shown} (of an earlier grid, or of another run)."


def _in_order(name: str) -> list[tuple[int, str, str]]:
    return [(len(digits), digits, other) for digits, other in _pieces(name)]


def _pieces(name: str) -> list[tuple[str, str]]:
    """``name`` cut so that 10 sorts after 9: pairs of (number without leading zeros, text after it)."""
    return [(digits.lstrip("0"), other) for digits, other in re.findall(r"(\d*)(\D*)", name)]


def read_overrides(cell: Path) -> dict[str, str]:
    """Key -> value, as typed, of what a run's command line, or its sweep, set.

    Raises:
        RunError: they are gone, or damaged.
    """
    path = cell / _OVERRIDES_FILE
    if not path.exists():
        raise RunError(f"{_OVERRIDES_FILE} is missing")
    try:
        found = load_plain(path, "report") or []
    except RequestError as error:
        raise RunError(f"{path}: {error}") from error
    if not isinstance(found, list):
        raise RunError(f"{path}: holds no list of overrides")
    pairs = (str(override).partition("=") for override in found)
    # `+key` and `++key` add a key; `~key` removes one, and keeps its mark, for it says something else.
    return {name: value for key, _, value in pairs if (name := key.lstrip("+")) not in OF_THE_SWEEP}


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
        "epsilon": VOID if run.void is not None else None if run.privacy is None else run.privacy.epsilon,
        "delta": None if run.privacy is None else run.privacy.delta,
        "error": run.error,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())
