"""A run of the recipe that is answered with, in figures, and what all runs took."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.config.words.pluralize import pluralize
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.printable import printable
from runner.report.cells import CellResult, SweepResults
from runner.report.question import Metric
from runner.report.recipes import epsilon, peak_mebibytes, seconds


def describe_run(sweep: SweepResults, runs: Sequence[CellResult], metric: Metric, *, head: str) -> str | None:
    """A sentence on the finished ``runs``, by their means, that begins with ``head``; None where there are none."""
    measured = [cell for cell in runs if math.isfinite(cell.metric(metric.name))]
    if not measured:
        return None
    figures = [f"{metric.words} {metric.text(metric.scale * _mean([cell.metric(metric.name) for cell in measured]))}"]
    if times := _known([seconds(cell) for cell in measured]):
        figures.append(duration_text(_mean(times)))
    if peaks := _known([peak_mebibytes(cell) for cell in measured]):
        figures.append(f"{_mean(peaks):,.0f} MiB")
    if spent := _known([epsilon(cell) for cell in measured]):
        figures.append(f"ε = {epsilon_text(max(spent))}")
    total = sum(_known([seconds(cell) for cell in sweep.cells]))
    data = {value for cell in sweep.cells if (value := cell.value("data"))}
    on = f" on {printable(data.pop())}" if len(data) == 1 else ""
    took = f"; the {pluralize(len(sweep.cells), 'run')}{on} took {duration_text(total)} in all" if total else ""
    return f"{head}: {', '.join(figures)}{took}."


def duration_text(span: float) -> str:
    """A time that somebody may plan with, from seconds."""
    if span < 90:
        return f"{span:.1f} s" if span < 10 else f"{span:.0f} s"
    return f"{span / 60:.0f} min" if span < 5400 else f"{span / 3600:.1f} h"


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
