"""The progress of a cell, read from its files while it runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.disk.files import ordinary
from runner.disk.json_files import parse_json
from runner.errors import RunError
from runner.records.metrics import METRICS_FILE
from runner.records.run_file import RUN_FILE, RunRecord, read_run

_TAIL_BYTES = 1 << 14
"""Enough for the last records of each kind."""


@dataclass(frozen=True, kw_only=True)
class CellProgress:
    """Where a cell stands; None for what its files do not tell yet."""

    epoch: int | None = None
    epochs: int | None = None
    val_accuracy: float | None = None
    """Share in [0, 1], at the latest evaluation."""
    val_loss: float | None = None
    seconds_left: float | None = None


class CellProgressReader:
    """Follows the files of a cell that has just been started."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the cell's and need not exist yet."""
        self._folder = folder
        self._begun = time.monotonic()
        self._first_step: int | None = None
        self._plan: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Time since the cell was started."""
        return time.monotonic() - self._begun

    def refresh(self) -> CellProgress:
        """Read what the cell has written by now."""
        if self._plan is None and (record := read_cell_record(self._folder)) is not None and record.status == "running":
            self._plan = dict(record.plan.get("semantic", {}))
        latest = _latest(self._folder / METRICS_FILE)
        if not self._plan or "train" not in latest:
            return CellProgress()
        train, val, steps = latest["train"], latest.get("val", {}), self._plan["steps"]
        if self._first_step is None:
            # a resumed cell begins in the middle, and its speed is not known before the second look
            self._first_step = train["step"]
        done = train["step"] - self._first_step
        return CellProgress(
            epoch=math.ceil(train["epoch"]),
            epochs=max(1, math.ceil(steps / self._plan["steps_per_epoch"])),
            val_accuracy=val.get("accuracy"),
            val_loss=val.get("loss"),
            seconds_left=self.seconds * (steps - train["step"]) / done if done else None,
        )


def read_cell_record(folder: Path) -> RunRecord | None:
    """How the run in ``folder`` stands or ended; None when it never began or its record is damaged."""
    if not (folder / RUN_FILE).exists():
        return None
    try:
        return read_run(folder)
    except RunError:
        return None


def failed_before(record: RunRecord | None) -> bool:
    """Whether a run has failed, and not merely been refused."""
    return record is not None and record.status == "failed" and not record.refused


def _latest(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each kind."""
    try:
        with ordinary(path).open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    found = {}
    # The first may have lost its head, and the last its tail: it is still being written.
    for line in lines[:-1]:
        if line.startswith(b'{"step"'):
            try:
                record = parse_json(line)
                found[record["kind"]] = record
            except (ValueError, KeyError, TypeError):
                continue  # this is but a display; who goes on from the file says what is wrong with it
    return found
