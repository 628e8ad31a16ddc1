"""The budget of a fair comparison: what must be equal over its recipes, and what was not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.records.run_file import STOPPED_EARLY
from runner.report.cells import CellResult
from runner.report.question import Metric
from runner.report.recipes import Grouping, Recipe, seconds

_CLOSE = 0.05
"""Share by which times, or counts of examples, may differ and still be called equal."""

_SHOWN = 5
"""Cells of which is told why they stopped early."""


def describe_budget(grouping: Grouping) -> str | None:
    """What every finished run was given, in one sentence; None when nothing has finished."""
    recipes = [recipe for recipe in grouping.recipes if recipe.finished]
    if not recipes:
        return None
    steps, examples = _all(recipes, _steps), _all(recipes, lambda cell: cell.examples_seen)
    times = [time for recipe in recipes if (time := recipe.mean(seconds)) is not None]
    same_time = bool(times) and max(times) <= (1 + _CLOSE) * min(times)
    if len(steps) == 1 and len(examples) == 1:
        return f"Equal budgets: every run made {steps[0]:,} updates and saw {examples[0]:,} training examples."
    if max(examples) <= (1 + _CLOSE) * min(examples):
        return f"Equal examples, unequal updates: {_span(examples)} training examples a run, in {_span(steps)} updates."
    if same_time:
        return (
            f"Equal seconds (within {_CLOSE:.0%}, {_span([round(time) for time in times])} s), unequal work:"
            f" {_span(steps)} updates and {_span(examples)} training examples."
        )
    return (
        f"Unequal budgets: {_span(steps)} updates and {_span(examples)} training examples; a difference between recipes"
        " may be one of budget."
    )


def warnings(grouping: Grouping) -> list[str]:
    """What else keeps the recipes from being compared like with like; empty when nothing does."""
    found = []
    recipes = [recipe for recipe in grouping.recipes if recipe.finished]
    for what, of in (
        ("training and test data", lambda cell: cell.semantic("data", "fingerprint")),
        ("machines or numbers of threads", _machine),
        ("versions of the libraries", lambda cell: _environment(cell, "packages")),
    ):
        if _differs(recipes, of):
            found.append(f"The recipes ran on different {what}.")
    if grouping.confounded:
        keys = ", ".join(f"`{key}`" for key in grouping.confounded)
        found.append(f"{keys} changed together with the recipe: its effect is part of every difference.")
    moved = [
        cell.name for recipe in recipes for cell in recipe.finished if cell.record and cell.record.earlier_environments
    ]
    if moved:
        found.append(f"Taken up again on another machine or under other versions: cells {', '.join(moved)}.")
    early = [cell for recipe in recipes for cell in recipe.finished if _stopped_early(cell)]
    if early:
        more = f"; and {len(early) - _SHOWN} more" if len(early) > _SHOWN else ""
        told = "; ".join(map(_early_stop, early[:_SHOWN]))
        found.append(f"Stopped early, so with fewer updates than planned: {told}{more}.")
    taken_up = [cell.name for recipe in recipes for cell in recipe.finished if _was_taken_up(cell)]
    if taken_up:
        found.append(f"Seconds count from where a run was taken up again: cells {', '.join(taken_up)}.")
    return found


def optimism(grouping: Grouping, metric: Metric) -> str | None:
    """The caution where recipes are compared on the images that chose the epochs of their runs; None elsewhere."""
    cells = [cell for recipe in grouping.recipes for cell in recipe.finished if cell.record]
    if not metric.name.startswith("val_") or not any(cell.record.metrics.best_epoch for cell in cells if cell.record):
        return None
    return (
        f"The {metric.words} of a run is that of its best epoch, chosen on these same images, so it is optimistic;"
        " test figures are not (`comparison.metric`)."
    )


def _stopped_early(cell: CellResult) -> str | None:
    """What the run says of it; None for one that made the updates that it had planned."""
    notes = () if cell.record is None else cell.record.notes
    return next((note for note in notes if note.startswith(STOPPED_EARLY)), None)


def _early_stop(cell: CellResult) -> str:
    return f"cell {cell.name}{(_stopped_early(cell) or '').removeprefix(STOPPED_EARLY)}"


def _differs(recipes: Sequence[Recipe], of: Callable[[CellResult], object]) -> bool:
    """Whether the sets of what ``of`` says differ between recipes; repeats within one may vary."""
    sets = [frozenset(repr(of(cell)) for cell in recipe.finished) for recipe in recipes]
    return len(set(sets)) > 1


def _all(recipes: Sequence[Recipe], of: Callable[[CellResult], int | None]) -> list[int]:
    """The different values, in ascending order."""
    return sorted({value for recipe in recipes for cell in recipe.finished if (value := of(cell)) is not None})


def _span(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"


def _steps(cell: CellResult) -> int | None:
    return None if cell.record is None else cell.record.steps


def _machine(cell: CellResult) -> object:
    return [_environment(cell, key) for key in ("cpu", "cores", "threads", "gpus")]


def _environment(cell: CellResult, key: str) -> object:
    return None if cell.record is None else cell.record.environment.get(key)


def _was_taken_up(cell: CellResult) -> bool:
    """Whether the clock of a run started later than its work: more seconds of training than of wall time."""
    trained = [record["seconds"] for record in cell.records if record["kind"] == "train" and "seconds" in record]
    wall = seconds(cell)
    return bool(trained) and wall is not None and trained[-1] > wall
