"""The report of a sweep among its runs in the tracker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.config.schema import TrackerConfig
from runner.disk.files import write_text
from runner.records.document import Grid, Heading
from runner.records.sink import Publication, RunInfo, build_sink
from runner.records.sweep_table import read_cells
from runner.report.cells import read_sweep
from runner.report.document import PICTURES, Figure
from runner.report.write import Report

IDENTITY_FILE = ".tracked_report"
"""In the sweep's folder: the tracker's identity of the report, so that a sweep that goes on replaces it."""


def track_report(report: Report, sweep_dir: Path, config: TrackerConfig, *, warn: Callable[[str], None]) -> None:
    """Show ``report`` as a run of its own in the group of the sweep's runs, where the tracker can show one.

    Raises:
        RequestError: the tracker is not installed.
    """
    sink = build_sink(config, warn=warn)
    if sink is None or not sink.publishes:
        return
    identity = sweep_dir / IDENTITY_FILE
    before = identity.read_text().strip() if identity.exists() else None
    write_text(identity, f"{before or sink.run_id}\n")
    typed = {"command": read_sweep(sweep_dir).command, "sweep": str(sweep_dir)}
    sink.start(
        RunInfo(
            run_dir=sweep_dir,
            name=f"report of {sweep_dir.name}",
            config=typed,
            group=sweep_dir.name,
            job_type="report",
            run_id=before,
        )
    )
    sink.publish(
        Publication(
            verdict=report.verdict,
            tables={"cells": _cells(sweep_dir), **_grids(report)},
            pictures=[
                sweep_dir / PICTURES / f"{part.picture.name}.png" for part in report.parts if isinstance(part, Figure)
            ],
            page=report.path,
        )
    )
    sink.finish({}, 0)


def _grids(report: Report) -> dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
    """The report's tables as they are read there, by the heading above each."""
    found: dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = {}
    heading = ""
    for part in report.parts:
        if isinstance(part, Heading):
            heading = part.text.lower()
        elif isinstance(part, Grid):
            found[heading] = (part.head, part.rows)
    return found


def _cells(sweep_dir: Path) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """``table.csv``: a column is of numbers where every value in it is one."""
    table = read_cells(sweep_dir)
    columns = [_numbers([row[name] for row in table.rows]) for name in table.columns]
    return table.columns, list(zip(*columns, strict=True))


def _numbers(texts: Sequence[str]) -> Sequence[Any]:
    try:
        return [float(text) if text else None for text in texts]
    except ValueError:
        return texts
