"""The Pareto front: recipes that no other is shown to beat on one figure without being worse on another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from runner.config.looks import count_looks
from runner.report.decision import COSTS, Decision, qualities
from runner.report.decision_rule import CLOSE, Booleans, log_costs
from runner.report.question import Question
from runner.report.recipes import Grouping, Recipe, epsilon
from runner.report.repeats import read_repeats
from runner.report.statistics import Floats, paired

_NAMES = {"seconds": "seconds", "MiB": "memory", "ε": "epsilon"}
"""Costs as a front names them, and as ``comparison.decision`` does."""


@dataclass(frozen=True, kw_only=True)
class RecipePoint:
    """A recipe by its means over the repeats that all measured recipes share or, where there is none, over its own."""

    recipe: Recipe
    quality: float
    """The metric as shown."""
    values: tuple[float, ...]
    """It, in each of the repeats."""
    costs: tuple[float, ...]
    """In the order of ``Front.costs``; less is better, infinite for the epsilon of a run without privacy."""
    dominated_by: tuple[str, ...]
    """Labels of the recipes that are nowhere worse in the mean, a difference within the margin or ``CLOSE`` counting
    as none, and shown by paired runs to be better somewhere by more than that."""
    beaten_in: tuple[str, ...]
    """Where the first of these is shown to be better: the metric in words, or names of ``Front.costs``."""

    def cost(self, name: str, front: Front) -> float | None:
        """One of ``costs``; None where it is not known."""
        found = self.costs[front.costs.index(name)]
        return None if math.isinf(found) else found


@dataclass(frozen=True, kw_only=True)
class Front:
    """All recipes that have finished runs."""

    costs: tuple[str, ...]
    """What is weighed against the metric: ``seconds``, ``MiB`` and, where a run is private, ``ε``."""
    entries: tuple[RecipePoint, ...]
    shared: bool
    """Whether the means are over repeats that all of them share."""

    @property
    def best(self) -> tuple[str, ...]:
        """Labels of the recipes that are not dominated."""
        return tuple(one.recipe.label for one in self.entries if not one.dominated_by)


def find_front(grouping: Grouping, question: Question, decision: Decision | None = None) -> Front:
    """Weigh the metric of ``question`` against time, memory and, where a run is private, epsilon.

    Where looks are planned (``decision``), on the repeats of the last look alone.  The level of each bound is that of
    the question over the number of recipes and figures, and looks.
    """
    repeats = read_repeats(grouping)
    private = any(recipe.mean(epsilon) is not None for recipe in grouping.recipes)
    costs = [name for name in _NAMES if name != "ε" or private]
    most = decision.look if decision is not None and decision.planned and decision.look else len(repeats.names)
    quality = qualities(repeats, question)
    measured = np.flatnonzero((~np.isnan(quality)).any(axis=(1, 2)))
    quality = quality[measured][:, :most]
    prices = {name: repeats.array(COSTS[_NAMES[name]])[measured][:, :most] for name in costs}
    looks = 1 if decision is None else count_looks(len(decision.looks))
    level = question.level / (max(len(measured) - 1, 1) * (1 + len(costs)) * looks)
    values = [quality.mean(axis=-1), *(-log_costs(price) for price in prices.values())]
    margins = [question.margin, *([math.log1p(CLOSE)] * len(costs))]
    names = [question.metric.words, *costs]
    better, worse = np.zeros((len(names), len(measured), len(measured)), bool), np.zeros((len(measured),) * 2, bool)
    for number, (value, margin) in enumerate(zip(values, margins, strict=True)):
        difference = paired(
            value[:, None],
            value[None],
            shared_training=0.0 if number else repeats.shared_training,
            resolution=0.0 if number else question.resolution,
        )
        better[number] = difference.lower(level) > margin
        unknown = np.isnan(value).all(axis=1)
        worse |= ~(difference.mean >= -margin) & ~(unknown[:, None] & unknown[None])
    dominates = better.any(axis=0) & ~worse
    common = ~np.isnan(values[0]).any(axis=0)
    labels = [grouping.recipes[number].label for number in measured]
    sign = 1.0 if question.metric.is_accuracy else -1.0
    return Front(
        costs=tuple(costs),
        entries=tuple(
            RecipePoint(
                recipe=grouping.recipes[number],
                quality=sign * _mean(values[0][row], common),
                values=tuple((sign * _known(values[0][row], common)).tolist()),
                costs=tuple(_mean(price[row], common) for price in prices.values()),
                dominated_by=tuple(label for label, wins in zip(labels, dominates[:, row], strict=True) if wins),
                beaten_in=tuple(
                    name
                    for name, wins in zip(names, better[:, dominates[:, row].argmax(), row], strict=True)
                    if wins and dominates[:, row].any()
                ),
            )
            for row, number in enumerate(measured)
        ),
        shared=bool(common.any()),
    )


def _known(figures: Floats, common: Booleans) -> Floats:
    """Those of the repeats that are common, else all there are."""
    chosen = figures[common] if common.any() else figures
    return chosen[~np.isnan(chosen)]


def _mean(figures: Floats, common: Booleans) -> float:
    """Infinite where nothing is known."""
    known = _known(figures, common)
    return float(known.mean()) if known.size else math.inf
