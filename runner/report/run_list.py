"""The runs and sweeps below a folder, each in a few words; of a thousand only the files that say these are read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from runner.errors import RunError
from runner.records.run_file import FINISHED, RUN_FILE, STATUSES, RunRecord, read_run
from runner.records.sweep_cells import CELLS_FILE, find_cells, is_confirmation, read_asked
from runner.records.sweep_table import TRIALS_FILE, read_overrides
from runner.report.document import MARKDOWN_FILE, read_lead

METRICS = ("test_accuracy", "val_accuracy", "test_loss", "val_loss", "train_loss")
"""The first that there is stands for a run."""

_SELECTING = tuple(name for name in METRICS if not name.startswith("test"))

LISTED_STATUSES = (*STATUSES, "not_started", "unreadable")

_MOST_VALUES = 6
"""Values of a key of a grid that are named one by one."""
_REPORT_BYTES = 2**14
"""In which the verdict of a report stands."""


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run, or a sweep."""

    folder: str
    """From the folder that was asked about; ``.`` for itself."""
    cells: int | None = None
    """Runs of a sweep, those included that have not started; None for a single run."""
    statuses: Mapping[str, int]
    """Status -> runs that have it: one of ``LISTED_STATUSES``."""
    started: datetime | None
    """When the first of them started; None where none has."""
    typed: tuple[str, ...] = ()
    """What was typed, ``key=value``; of a sweep every value of a key, separated by commas."""
    metric: str | None = None
    """Which of ``METRICS`` is told; of a sweep the best of its finished runs."""
    value: float | None = None
    best: tuple[str, ...] = ()
    """What that run of a sweep was asked, as far as it differs from the others."""
    private: bool = False
    epsilon: float | None = None
    """The epsilon of the run, or the largest of a run of the sweep.  None where there is none, or it is void."""
    void: str | None = None
    """Why the epsilon that was recorded does not hold."""
    verdict: str | None = None
    """What the report of a sweep found; None where there is none, or runs have gone on since."""
    error: str | None = None
    """Why it failed, or what is wrong with its files."""


@dataclass(frozen=True)
class RunList:
    """What lies below a folder."""

    runs: tuple[ListedRun, ...]
    """The newest last."""
    unread: tuple[str, ...]
    """Folders that cannot be read, with the reason."""


@dataclass
class _Found:
    """Folders below another one."""

    runs: list[Path] = field(default_factory=list)
    sweeps: list[Path] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def list_runs(root: Path) -> RunList:
    """The runs and sweeps in and below ``root``.  Links are not followed; what is damaged is listed as such."""
    found = _search(root)
    listed = [_listed_run(root, folder) for folder in found.runs]
    for folder in found.sweeps:
        try:
            cells = find_cells(folder)
        except OSError as error:
            found.unread.append(f"{folder} ({error.strerror or error})")
            continue
        listed += [_listed_run(root, folder / name) for name in cells.strangers if not (folder / name).is_symlink()]
        listed.append(_listed_sweep(root, folder, [name for name in cells.cells if not (folder / name).is_symlink()]))
    return RunList(tuple(sorted(listed, key=_order)), tuple(found.unread))


def find_sweeps(root: Path) -> list[Path]:
    """The folders of the sweeps in and below ``root``.  Links are not followed."""
    return _search(root).sweeps


def _search(root: Path) -> _Found:
    found, waiting = _Found(), [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = list(entries)
        except OSError as error:
            found.unread.append(f"{folder} ({error.strerror or error})")
            continue
        names = {entry.name for entry in inside}
        if RUN_FILE in names:
            found.runs.append(folder)
        elif CELLS_FILE in names or "multirun.yaml" in names:
            found.sweeps.append(folder)
        else:
            waiting += [
                Path(entry.path)
                for entry in inside
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
    return found


def _listed_run(root: Path, folder: Path) -> ListedRun:
    record, status, error = _read(folder)
    typed, unknown = _typed(folder)
    metric = None if record is None else next(_measured(record), None)
    return ListedRun(
        folder=_name(root, folder),
        statuses={status: 1},
        started=_begun(record, folder),
        typed=typed,
        metric=metric and metric[0],
        value=metric and metric[1],
        private=record is not None and record.privacy is not None,
        epsilon=None if record is None or record.privacy is None else record.privacy.epsilon,
        void=None if record is None else record.void,
        error=error or unknown,
    )


def _listed_sweep(root: Path, folder: Path, names: Sequence[str]) -> ListedRun:
    asked = read_asked(folder) or {}
    read = {name: _read(folder / name) for name in names}
    statuses = Counter(status for _, status, _ in read.values())
    if missing := len(set(asked) - set(names)):
        statuses["not_started"] += missing
    typed = {name: asked.get(name) or list(_typed(folder / name)[0]) for name in {**asked, **read}}
    grid = _grid(typed.values())
    records = {name: record for name, (record, _, _) in read.items() if record is not None}
    finished = {
        name: record for name, record in records.items() if record.status in FINISHED and not is_confirmation(name)
    }
    # the best trial of a search is not to be chosen by test figures
    best = _best(finished, _SELECTING if (folder / TRIALS_FILE).exists() else METRICS)
    spent = [record.privacy.epsilon for record in records.values() if record.privacy and record.privacy.epsilon]
    return ListedRun(
        folder=_name(root, folder),
        cells=len({*asked, *names}),
        statuses=dict(statuses),
        started=min((_moment(record.started) for record in records.values()), default=None),
        typed=tuple(f"{key}={_values(values)}" for key, values in grid.items()),
        metric=best and best[1],
        value=best and best[2],
        best=tuple(line for line in typed[best[0]] if len(grid[line.partition("=")[0]]) > 1) if best else (),
        private=any(record.privacy is not None for record in records.values()),
        epsilon=max(spent, default=None),
        void=next((record.void for record in records.values() if record.void is not None), None),
        verdict=_verdict(folder, names),
        error=next((f"{name}: {error}" for name, (_, _, error) in read.items() if error), None),
    )


def _read(folder: Path) -> tuple[RunRecord | None, str, str | None]:
    """The record of a run, its status, and its error or what is wrong with the file."""
    try:
        record = read_run(folder)
    except FileNotFoundError:
        return None, "not_started", None
    except RunError as error:
        return None, "unreadable", str(error)
    except OSError as error:
        return None, "unreadable", f"{RUN_FILE}: {error.strerror or error}"
    return record, record.status, record.error


def _typed(folder: Path) -> tuple[tuple[str, ...], str | None]:
    """What was typed for a run, and why that is unknown."""
    try:
        return tuple(f"{key}={value}" for key, value in read_overrides(folder).items()), None
    except (RunError, OSError) as error:
        return (), f"what was typed is unknown: {error}"


def _measured(record: RunRecord) -> Iterator[tuple[str, float]]:
    for name in METRICS:
        if (value := getattr(record.metrics, name)) is not None:
            yield name, value


def _best(records: Mapping[str, RunRecord], metrics: Sequence[str]) -> tuple[str, str, float] | None:
    """Folder, metric and value of the best of ``records``, by the first of ``metrics`` that any has."""
    for metric in metrics:
        values = {name: value for name, record in records.items() for key, value in _measured(record) if key == metric}
        if values:
            choose = max if metric.endswith("accuracy") else min
            name = choose(values, key=values.__getitem__)
            return name, metric, values[name]
    return None


def _grid(cells: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """Key -> its values, each once and in order, of the lines of several runs; what differs between them first."""
    grid: dict[str, dict[str, None]] = {}
    for lines in cells:
        for line in lines:
            key, _, value = line.partition("=")
            grid.setdefault(key, {})[value] = None
    return {key: list(grid[key]) for key in sorted(grid, key=lambda key: len(grid[key]) == 1)}


def _values(values: Sequence[str]) -> str:
    return ",".join(values) if len(values) <= _MOST_VALUES else f"{values[0]},... ({len(values)} values)"


def _verdict(folder: Path, names: Sequence[str]) -> str | None:
    """The verdict of the report in ``folder``, if no run has changed since it was written."""
    report = folder / MARKDOWN_FILE
    if not report.is_file():
        return None
    try:
        with report.open(encoding="utf-8", errors="replace") as file:
            written = os.fstat(file.fileno()).st_mtime_ns
            verdict = read_lead(file.read(_REPORT_BYTES))
        changed = max((folder.joinpath(name, RUN_FILE).stat().st_mtime_ns for name in names), default=0)
    except OSError:
        return None
    return verdict if changed <= written else None


def _begun(record: RunRecord | None, folder: Path) -> datetime | None:
    if record is not None:
        return _moment(record.started)
    try:
        return datetime.fromtimestamp((folder / RUN_FILE).stat().st_mtime, UTC)
    except OSError:
        return None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _name(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _order(one: ListedRun) -> tuple[datetime, str]:
    return one.started or datetime.min.replace(tzinfo=UTC), one.folder
