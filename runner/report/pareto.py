"""The Pareto front: recipes that no other beats on one figure without being worse on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.report.question import Question
from runner.report.recipes import Recipe, epsilon, peak_mebibytes, seconds

_Point = tuple[float, tuple[float, ...]]
"""What is better the smaller it is: the metric, turned over where it is an accuracy, and the costs."""

CLOSE = 0.02
"""Share by which costs may differ and still count as equal: less is the noise of a machine, not a reason to choose."""


@dataclass(frozen=True, kw_only=True)
class RecipePoint:
    """A recipe by its means over finished runs."""

    recipe: Recipe
    quality: float
    """The metric as shown."""
    costs: tuple[float, ...]
    """In the order of ``Front.costs``; less is better, infinite for the epsilon of a run without privacy."""
    dominated_by: tuple[str, ...]
    """Labels of the recipes that are nowhere worse and somewhere better, costs within ``CLOSE`` being equal."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """All recipes that have finished runs."""

    costs: tuple[str, ...]
    """What is weighed against the metric: ``seconds``, ``MiB`` and, where a run is private, ``ε``."""
    entries: tuple[RecipePoint, ...]

    @property
    def best(self) -> tuple[str, ...]:
        """Labels of the recipes that are not dominated."""
        return tuple(one.recipe.label for one in self.entries if not one.dominated_by)


def find_front(recipes: Sequence[Recipe], question: Question) -> Front:
    """Weigh the metric of ``question`` against time, memory and, where a run is private, epsilon.

    The metric's means are compared as they are: a difference that is within their noise counts like any other.
    """
    private = any(recipe.mean(epsilon) is not None for recipe in recipes)
    costs = {"seconds": seconds, "MiB": peak_mebibytes} | ({"ε": epsilon} if private else {})
    found = []
    for recipe in recipes:
        quality = recipe.mean(lambda cell: cell.metric(question.metric.name))
        if quality is not None:
            means = [recipe.mean(figure) for figure in costs.values()]
            found.append((recipe, quality, tuple(math.inf if mean is None else mean for mean in means)))
    sign = -1.0 if question.metric.is_accuracy else 1.0
    points = [(sign * quality, means) for _, quality, means in found]
    return Front(
        costs=tuple(costs),
        entries=tuple(
            RecipePoint(
                recipe=recipe,
                quality=question.metric.scale * quality,
                costs=means,
                dominated_by=tuple(
                    other.label for (other, _, _), rival in zip(found, points, strict=True) if _dominates(rival, point)
                ),
            )
            for (recipe, quality, means), point in zip(found, points, strict=True)
        ),
    )


def _dominates(one: _Point, other: _Point) -> bool:
    (loss, costs), (other_loss, other_costs) = one, other
    pairs = list(zip(costs, other_costs, strict=True))
    if loss > other_loss or any(cost > (1 + CLOSE) * rival for cost, rival in pairs):
        return False
    return loss < other_loss or any(rival > (1 + CLOSE) * cost for cost, rival in pairs)
