"""``halving.json`` of a grid with successive halving: its rungs, and which cells were stopped at which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.config.request.halving import Rung
from runner.disk.json_files import read_json
from runner.errors import RunError
from runner.records.json_values import write_json
from runner.records.metrics import METRICS_FILE, read_metrics
from runner.records.run_file import FINISHED, RunRecord

HALVING_FILE = "halving.json"

_CLOSE = 1e-9
"""Of an epoch, by which the number of one that was counted in updates may be off."""


@dataclass(frozen=True, kw_only=True)
class Halving:
    """How far the halving of a grid has come."""

    monitor: str
    """The validation figure that decides."""
    epochs: float
    """Those of a whole run."""
    rungs: tuple[Rung, ...]
    until: int | None
    """The epoch after which the cells that are started now pause; None for their end."""
    stopped: Mapping[str, int] = field(default_factory=dict)
    """Folder of a cell that was stopped, from the sweep's -> after which epoch."""


def write_halving(sweep_dir: Path, halving: Halving) -> None:
    """Replace the file, atomically."""
    write_json(sweep_dir / HALVING_FILE, asdict(halving))


def read_halving(sweep_dir: Path) -> Halving | None:
    """What ``write_halving`` wrote; None where there is no such file.

    Raises:
        RunError: it is damaged.
    """
    path = sweep_dir / HALVING_FILE
    if not path.exists():
        return None
    try:
        found: Any = read_json(path)
        rungs = tuple(Rung(epoch=int(rung["epoch"]), keep=int(rung["keep"])) for rung in found["rungs"])
        stopped = {str(folder): int(epoch) for folder, epoch in found["stopped"].items()}
        until = None if found["until"] is None else int(found["until"])
        monitor, epochs = str(found["monitor"]), float(found["epochs"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{sweep_dir.name}/{HALVING_FILE}: damaged ({error})") from error
    return Halving(monitor=monitor, epochs=epochs, rungs=rungs, until=until, stopped=stopped)


def value_at(folder: Path, record: RunRecord | None, epoch: int, monitor: str) -> float | None:
    """What a run monitored after ``epoch`` epochs, or at its own end where it was done before.

    NaN where that is not finite, and for a run that failed; None as long as the run has not come so far.
    """
    if record is None:
        return None
    if record.status == "failed":
        return math.nan
    try:
        found = [one for one in read_metrics(folder / METRICS_FILE) if one["kind"] == "val"]
    except FileNotFoundError:
        return None
    found = [one for one in found if one["epoch"] <= epoch + _CLOSE]
    if not found or (found[-1]["epoch"] < epoch - _CLOSE and record.status not in FINISHED):
        return None
    value = float(found[-1][monitor.removeprefix("val_")])
    # an accuracy beside a loss that is not finite counts answers that are no numbers
    return value if math.isfinite(found[-1]["loss"]) else math.nan
