"""What successive halving has stopped, and how far what it says reaches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from runner.config.words.pluralize import pluralize
from runner.errors import plainly
from runner.records.document import Grid, Heading, Paragraph, Text
from runner.records.halving_file import Halving, read_halving, value_at
from runner.report.cells import CellResult, SweepResults
from runner.report.question import Metric, Question
from runner.report.recipes import label_of

_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Halved:
    """A grid in which successive halving has compared recipes before their ends."""

    state: Halving
    everyone: SweepResults
    """All cells."""
    contenders: SweepResults
    """Without the cells that were stopped: what runs to its end, and can be compared there."""


def find_halved(sweep: SweepResults) -> Halved | None:
    """The halving of ``sweep``; None where none was asked for, and for one in which nothing has been stopped yet.

    Raises:
        RunError: what is noted of it is damaged.
    """
    state = read_halving(sweep.folder)
    if state is None or not state.stopped:
        return None
    left = tuple(cell for cell in sweep.cells if cell.name not in state.stopped)
    return Halved(state=state, everyone=sweep, contenders=dataclasses.replace(sweep, cells=left)) if left else None


def without_stopped_reference(question: Question, halved: Halved) -> Question:
    """``question``, which takes the first recipe that is left for its reference where its own was stopped."""
    stopped = [cell for cell in halved.everyone.cells if cell.name in halved.state.stopped]
    names = {",".join(cell.value(key) or "-" for key in question.by) for cell in stopped}
    return dataclasses.replace(question, reference=None) if question.reference in names else question


def limit_statement(halved: Halved, question: Question) -> str:
    """What is not said of the recipes that were stopped, in a sentence or two."""
    stopped = _labels(halved, question)
    named = [f"{label} after epoch {epoch}" for label, epoch in list(stopped.items())[:_MOST_NAMED]]
    if len(stopped) > _MOST_NAMED:
        named.append(f"{len(stopped) - _MOST_NAMED} more")
    metric = Metric(halved.state.monitor)
    verb = "was" if len(stopped) == 1 else "were"
    return (
        f"That is said of the recipes that were trained for all {plainly(halved.state.epochs)} epochs;"
        f" {pluralize(len(stopped), 'recipe')} {verb} stopped early by {metric.words} ({', '.join(named)}), and what"
        f" {'it' if len(stopped) == 1 else 'they'} would have come to at full length is not known."
    )


def describe_halving(halved: Halved, question: Question) -> Iterator[Text]:
    """A row a recipe: where it was stopped, and what decided at each rung."""
    metric, state = Metric(halved.state.monitor), halved.state
    rows = []
    for label, cells in _recipes(halved.everyone, question).items():
        found = [_mean(cells, rung.epoch, state.monitor) for rung in state.rungs]
        epoch = next((state.stopped[cell.name] for cell in cells if cell.name in state.stopped), None)
        # what a stopped recipe did later, resumed by itself, has decided nothing
        upto = [value if epoch is None or rung.epoch <= epoch else None
                for value, rung in zip(found, state.rungs, strict=True)]  # fmt: skip
        rows.append(
            [
                label,
                *("-" if value is None or math.isnan(value) else metric.text(metric.scale * value) for value in upto),
                "to the end" if epoch is None else f"to epoch {epoch}, then stopped",
            ]
        )
    yield Heading(2, "Successive halving")
    head = ["recipe", *(f"epoch {rung.epoch}" for rung in state.rungs), "trained"]
    yield Grid(head, rows, frozenset({"recipe", "trained"}))
    kept = ", ".join(f"{rung.keep} after epoch {rung.epoch}" for rung in state.rungs)
    yield Paragraph(
        f"The mean {metric.words} of a recipe's runs at each rung decided which recipes went on ({kept}; Jamieson and"
        " Talwalkar 2016). Every run had the schedule of its full length from the first update. A recipe that starts"
        " slowly may be stopped and yet be the best at full length."
    )


def _recipes(sweep: SweepResults, question: Question) -> dict[str, list[CellResult]]:
    found: dict[str, list[CellResult]] = {}
    for cell in sweep.cells:
        found.setdefault(label_of(question.by, [cell.value(key) for key in question.by]), []).append(cell)
    return found


def _labels(halved: Halved, question: Question) -> dict[str, int]:
    """Label -> epoch of the recipes that were stopped."""
    stopped = halved.state.stopped
    return {
        label: next(stopped[cell.name] for cell in cells if cell.name in stopped)
        for label, cells in _recipes(halved.everyone, question).items()
        if any(cell.name in stopped for cell in cells)
    }


def _mean(cells: list[CellResult], epoch: int, monitor: str) -> float | None:
    values = [value_at(cell.folder, cell.record, epoch, monitor) for cell in cells]
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
