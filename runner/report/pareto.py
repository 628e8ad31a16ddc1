"""Which recipes are worth choosing: those that no other beats on one figure without being worse on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.report.question import Question
from runner.report.recipes import Recipe, epsilon, peak_mebibytes, seconds


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A recipe by its means over finished runs."""

    recipe: Recipe
    quality: float
    """The metric as shown."""
    costs: tuple[float, ...]
    """In the order of ``Front.costs``; less is better, infinite for the epsilon of a run without privacy."""
    dominated_by: tuple[str, ...]
    """Labels of the recipes that are nowhere worse and somewhere better."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """All recipes that have finished runs."""

    costs: tuple[str, ...]
    """What is weighed against the metric: ``seconds``, ``MiB`` and, where a run is private, ``ε``."""
    standings: tuple[Standing, ...]

    @property
    def best(self) -> tuple[str, ...]:
        """Labels of the recipes that are not dominated."""
        return tuple(one.recipe.label for one in self.standings if not one.dominated_by)


def find_front(recipes: Sequence[Recipe], question: Question) -> Front:
    """Weigh the metric of ``question`` against time, memory and, where a run is private, epsilon.

    Means are compared as they are: a difference that is within the noise counts like any other.
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
    points = [(sign * quality, *means) for _, quality, means in found]
    return Front(
        costs=tuple(costs),
        standings=tuple(
            Standing(
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


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
