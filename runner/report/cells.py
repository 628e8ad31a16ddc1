"""The cells of a sweep as their files tell them: what was asked of each, and what came of it."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.config.untrusted.foreign_yaml import load_plain
from runner.config.untrusted.run_config import CONFIG_FILE
from runner.errors import RequestError, RunError, as_typed
from runner.records.metrics import METRICS_FILE, Record, read_metrics
from runner.records.run_file import RUN_FILE, RunRecord, read_run
from runner.records.sweep_cells import read_asked
from runner.records.sweep_table import read_cells, read_overrides

REPEATS = ("seed", "data.split_seed", "data.fold", "privacy.unsafe_noise_seed")
"""Keys that repeat a recipe rather than change it."""

_NOT_REPEATED = ("hydra.mode=", "hydra.run.dir=", "hydra.sweep.dir=", "hydra.sweeper.seeds=")
"""Overrides that say where a run went, not what it was, or that the command line itself makes of others."""

_UNFINISHED = ("running", "interrupted", "not_started")


@dataclass(frozen=True)
class CellResult:
    """One run of a sweep."""

    folder: Path
    status: str
    """That of ``run.json``, or ``not_started`` or ``unreadable``."""
    overrides: Mapping[str, str]
    """Key -> value as typed."""
    record: RunRecord | None
    """None where there is none that can be read."""
    error: str | None
    name: str
    """Its folder, from that of the sweep."""

    @property
    def finished(self) -> bool:
        """Whether it ended as it should."""
        return self.status in ("completed", "budget_exhausted")

    @property
    def failed(self) -> bool:
        """Whether it did not end as it should; a pruned trial did."""
        return not self.finished and not self.unfinished and self.status != "pruned"

    @property
    def unfinished(self) -> bool:
        """Whether it may still end well: it runs, waits or was interrupted."""
        return self.status in _UNFINISHED

    def value(self, key: str) -> str | None:
        """What ``key`` was in this cell, as it would be typed, whether or not it was; None where there is no such key.

        A group's value is the name of the chosen option.
        """
        if key in self.overrides:
            return self.overrides[key]
        if key in self.choices:
            return as_typed(self.choices[key])
        value: Any = self.config
        for name in key.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return None if isinstance(value, Mapping) else as_typed(value)

    def keys(self) -> set[str]:
        """Every key that ``value`` knows."""
        return {*self.overrides, *self.choices, *_leaves(self.config)}

    def metric(self, name: str) -> float:
        """A final metric; NaN where there is none, and for a run that did not end as it should."""
        value = getattr(self.record.metrics, name) if self.record is not None and self.finished else None
        return math.nan if value is None else value

    def semantic(self, *path: str) -> Any:
        """What the plan says in its semantic part at ``path``; None where there is no plan."""
        value: Any = {} if self.record is None else self.record.plan.get("semantic", {})
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def images(self, split: str) -> int | None:
        """Examples of ``split`` (train, val, test); None where no plan says, and where there is no such split."""
        splits = () if self.record is None else self.record.plan.get("splits", ())
        return next((int(one["examples"]) for one in splits if one.get("name") == split), None)

    @property
    def identity(self) -> str | None:
        """Hash of everything that changes the numbers; cells that share it differ in performance settings only."""
        return None if self.record is None else self.record.plan.get("identity")

    @property
    def examples_seen(self) -> int | None:
        """Training examples that its updates were made of; under DP the expected number."""
        batch = self.semantic("logical_batch")
        if batch is None or self.record is None:
            return None
        # an epoch's last batch is shorter: epochs x examples counts each example once
        return round(self.record.epochs * self.semantic("data", "examples"))

    @cached_property
    def records(self) -> list[Record]:
        """Its ``metrics.jsonl``; empty where there is none, or where something has damaged it."""
        try:
            return read_metrics(self.folder / METRICS_FILE)
        except (FileNotFoundError, RunError):
            return []

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Its composed configuration, interpolations left as they are."""
        return _read_yaml(self.folder / ".hydra" / "config.yaml")

    @cached_property
    def choices(self) -> Mapping[str, Any]:
        """Group -> chosen option, Hydra's own groups apart."""
        found: Any = _read_yaml(self.folder / ".hydra" / "hydra.yaml")
        for name in ("hydra", "runtime", "choices"):
            found = found.get(name, {}) if isinstance(found, Mapping) else {}
        choices = {str(group): option for group, option in found.items()} if isinstance(found, Mapping) else {}
        return {group: option for group, option in choices.items() if not group.startswith("hydra/")}


@dataclass(frozen=True)
class SweepResults:
    """All cells that lie in a folder; a single run is a sweep of one."""

    folder: Path
    cells: tuple[CellResult, ...]
    unknown: tuple[CellResult, ...] = ()
    """Cells of which nobody knows what was asked; they are compared with nothing."""
    strangers: tuple[str, ...] = ()
    """Folders of runs that are no cells of it."""
    not_begun: int = 0
    """Cells that were asked for and have no folder yet."""

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Keys that were typed and differ between cells, in the order in which they were typed.

        The question is none of them: it changes no run, and may differ where a sweep was started again.
        """
        typed = dict.fromkeys(key for cell in self.cells for key in cell.overrides if not key.startswith("comparison."))
        return tuple(key for key in typed if len({cell.value(key) for cell in self.cells}) > 1)

    @property
    def finished(self) -> tuple[CellResult, ...]:
        """The cells that ended as they should."""
        return tuple(cell for cell in self.cells if cell.finished)

    @property
    def not_ended(self) -> int:
        """Cells that are still to end, or to begin."""
        return self.not_begun + sum(cell.unfinished for cell in self.cells)

    @cached_property
    def hydra(self) -> Mapping[str, Any]:
        """Hydra's own configuration of the whole sweep; empty where it left none."""
        found = _read_yaml(self.folder / "multirun.yaml") or _read_yaml(self.folder / ".hydra" / "hydra.yaml")
        hydra = found.get("hydra", {})
        return hydra if isinstance(hydra, Mapping) else {}

    @property
    def command(self) -> str | None:
        """The command line that makes it again; None where Hydra left none."""
        if not self.hydra:
            return None
        typed = self.hydra.get("overrides")
        if not isinstance(typed, Mapping) or not all(_are_words(typed.get(key)) for key in ("hydra", "task")):
            raise RunError(f"{self.folder}: Hydra's files name no overrides")
        lines = [*(line for line in typed["hydra"] if not line.startswith(_NOT_REPEATED)), *typed["task"]]
        flag = ["--multirun"] if (self.folder / "multirun.yaml").exists() else []
        return shlex.join(["python", "-m", "runner", *flag, *lines])


def read_sweep(folder: Path) -> SweepResults:
    """Read the sweep, or the single run, in ``folder``.

    Raises:
        RequestError: there is no such folder, or nothing of the runner's in it, or of no cell is known what was asked.
        RunError: the record of a single run cannot be read; a cell of that kind is one of the sweep's cells.
    """
    if not folder.is_dir():
        raise RequestError("DIR", folder, "the folder of a sweep, or of a run")
    if (folder / RUN_FILE).exists():
        record = read_run(folder)
        return SweepResults(
            folder, (CellResult(folder, record.status, _of_a_run(folder), record, record.error, folder.name),)
        )
    table = read_cells(folder)
    if not table.rows:
        raise RequestError("DIR", folder, "the folder of a sweep, or of a run: there is no cell in it")
    cells = [_checked(_read_cell(folder, row, table.overridden), row["cell"] in table.unknown) for row in table.rows]
    known = tuple(cell for cell, unknown in cells if not unknown)
    if not known:
        why = cells[0][0].error
        raise RequestError(
            "DIR", folder, f"a sweep: what was asked is unknown of each of its {len(cells)} cells ({why})"
        )
    unknown = tuple(cell for cell, unknown in cells if unknown)
    not_begun = len((read_asked(folder) or {}).keys() - {row["cell"] for row in table.rows})
    return SweepResults(folder, known, unknown, table.strangers, not_begun)


def _checked(cell: CellResult, unknown: bool) -> tuple[CellResult, bool]:
    """The cell, and whether it is unknown what was asked of it: by its table, or by its damaged configuration."""
    if not unknown:
        try:
            cell.keys()
            if not cell.config and cell.status != "not_started":
                raise RunError(f"{CONFIG_FILE} is missing")
        except RunError as error:
            return dataclasses.replace(cell, error=f"what was asked is unknown: {error}"), True
    return cell, unknown


def _of_a_run(folder: Path) -> dict[str, str]:
    """The overrides of a single run, which is compared with nothing."""
    try:
        return read_overrides(folder)
    except RunError:
        if (folder / ".hydra").exists():
            raise
        return {}


def _read_cell(sweep_dir: Path, row: Mapping[str, str], keys: Sequence[str]) -> CellResult:
    folder, status = sweep_dir / row["cell"], row["status"]
    return CellResult(
        folder=folder,
        status=status,
        overrides={key: row[key] for key in keys if row[key]},
        record=None if status in ("not_started", "unreadable") else read_run(folder),
        error=row["error"] or None,
        name=row["cell"],
    )


def _read_yaml(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        found = load_plain(path, "report") or {}
    except RequestError as error:
        raise RunError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: holds no configuration")
    return found


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _leaves(config: Mapping[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in config.items():
        name = f"{prefix}{key}"
        found |= _leaves(value, f"{name}.") if isinstance(value, Mapping) and value else {name}
    return found
