"""Recipes: the cells of a sweep that differ in nothing but what repeats them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runner.errors import RequestError, nearest
from runner.records.printable import printable
from runner.report.cells import CellResult, SweepResults
from runner.report.question import Question

_NAMED = 4
"""Recipes of one kind that a sentence names; more are counted."""

Block = tuple[str | None, ...]
"""Values of everything that varies besides the recipe: runs of two recipes in the same block are a pair."""


@dataclass(frozen=True)
class Recipe:
    """All runs of one recipe."""

    label: str
    """Short name: the values of the keys that tell recipes apart."""
    values: tuple[str | None, ...]
    """The values themselves, in the order of ``Question.by``."""
    cells: tuple[CellResult, ...]
    blocks: tuple[Block, ...]
    """That of each cell."""

    @property
    def finished(self) -> tuple[CellResult, ...]:
        """The cells that ended as they should."""
        return tuple(cell for cell in self.cells if cell.finished)

    def by_block(self, metric: str) -> dict[Block, float]:
        """Block -> mean of ``metric`` over its runs that have one."""
        found: dict[Block, list[float]] = {}
        for cell, block in zip(self.cells, self.blocks, strict=True):
            if not math.isnan(value := cell.metric(metric)):
                found.setdefault(block, []).append(value)
        return {block: sum(values) / len(values) for block, values in found.items()}

    def measured(self, figure: Callable[[CellResult], float | None]) -> list[float]:
        """``figure`` of each finished cell that has one."""
        values = [figure(cell) for cell in self.finished]
        return [value for value in values if value is not None and not math.isnan(value)]

    def mean(self, figure: Callable[[CellResult], float | None]) -> float | None:
        """Mean of ``figure`` over the finished cells; None where none has one."""
        values = self.measured(figure)
        return sum(values) / len(values) if values else None


def images_per_second(cell: CellResult) -> float | None:
    """Training images a second."""
    return None if cell.record is None else cell.record.throughput.samples_per_second


def seconds(cell: CellResult) -> float | None:
    """Wall time of the whole run, evaluation included."""
    return None if cell.record is None else cell.record.seconds


def peak_mebibytes(cell: CellResult) -> float | None:
    """Peak memory in MiB."""
    return (
        None if cell.record is None or cell.record.memory.peak_bytes is None else cell.record.memory.peak_bytes / 2**20
    )


def epsilon(cell: CellResult) -> float | None:
    """Privacy spent by the run; None without differential privacy."""
    return None if cell.record is None or cell.record.privacy is None else cell.record.privacy.epsilon


def money(cell: CellResult) -> float | None:
    """Price of the run's wall time by ``hardware.price_per_hour``; None where that is not set."""
    hardware = cell.config.get("hardware")
    price = hardware.get("price_per_hour") if isinstance(hardware, Mapping) else None
    spent = seconds(cell)
    return None if not isinstance(price, int | float) or spent is None else spent / 3600 * price


def joules(cell: CellResult) -> float | None:
    """Energy that the run's machines counted; None without a meter."""
    return None if cell.record is None else cell.record.energy.joules


def void(cell: CellResult) -> str | None:
    """Why the epsilon that the run recorded does not hold; None where it does."""
    return None if cell.record is None else cell.record.void


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """The cells of a sweep, put together by recipe."""

    recipes: tuple[Recipe, ...]
    """The reference first, the others in the order of their cells.  It is the one that was named, else the first that
    has a result."""
    crossed: tuple[str, ...]
    """Keys that vary within a recipe, seeds among them: they make the blocks."""
    confounded: tuple[str, ...]
    """Keys that change together with the recipe, so that their effects cannot be told from its own."""


def group(sweep: SweepResults, question: Question) -> Grouping:
    """Put the cells of ``sweep`` together by the keys of ``question``.

    Raises:
        RequestError: no recipe is the reference that the question names.
    """
    members: dict[tuple[str | None, ...], list[CellResult]] = {}
    for cell in sweep.cells:
        members.setdefault(tuple(cell.value(key) for key in question.by), []).append(cell)
    others = [key for key in sweep.varied if key not in question.by]
    crossed = [key for key in others if any(len({cell.value(key) for cell in cells}) > 1 for cells in members.values())]
    recipes = [
        Recipe(
            label=label_of(question.by, values),
            values=values,
            cells=tuple(cells),
            blocks=tuple(tuple(cell.value(key) for key in crossed) for cell in cells),
        )
        for values, cells in members.items()
    ]
    # a recipe whose runs all failed cannot be what the others are held against, unless that was asked for
    usable = (recipe for recipe in recipes if recipe.by_block(question.metric.name))
    first = next(usable, recipes[0]) if question.reference is None else _named(recipes, question.reference)
    return Grouping(
        recipes=(first, *(recipe for recipe in recipes if recipe is not first)),
        crossed=tuple(crossed),
        confounded=tuple(key for key in others if key not in crossed),
    )


def label_of(by: Sequence[str], values: Sequence[str | None]) -> str:
    """The short name of the recipe that has ``values`` of the keys ``by``."""
    if not by:
        return "this recipe"
    shown = ["-" if value is None else printable(value) for value in values]
    # a word such as bf16 names a recipe by itself; a number needs its key
    if len(by) == 1 and not _is_bare(shown[0]):
        return shown[0]
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in zip(by, shown, strict=True))


def list_labels(labels: Sequence[str]) -> str:
    """``a, b and c``; the number of recipes where there are many."""
    if len(labels) > _NAMED:
        return f"{len(labels)} recipes"
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _is_bare(value: str) -> bool:
    """Whether ``value`` is a number, a switch or null, which could be that of any key."""
    return value in ("null", "true", "false", "-") or value.lstrip("+-.")[:1].isdigit()


def _named(recipes: Sequence[Recipe], reference: str) -> Recipe:
    names = [",".join(value or "-" for value in recipe.values) for recipe in recipes]
    if reference not in names:
        raise RequestError(
            "comparison.reference", reference, f"one of {', '.join(names)}", nearest=nearest(reference, names)
        )
    return recipes[names.index(reference)]
