"""The pictures of a choice: accuracy against what it costs, privacy included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runner.config.words.pluralize import pluralize
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.printable import shortened
from runner.report.decision_rule import CLOSE
from runner.report.label_places import Mark, name_marks
from runner.report.pareto import Front
from runner.report.question import Question
from runner.report.recipes import Recipe, epsilon, void
from runner.report.statistics import mean_interval
from runner.report.style import INK, MUTED, PAPER, PlotFile, canvas, colour, finish, label_logarithmic, name_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {"seconds": "seconds a run", "MiB": "peak memory (MiB)", "ε": "ε (log scale)"}
_NAMED, _SHORT = 24, 14
"""Most recipes, and longest labels, that are named beside their marks; else a legend names them."""


def draw_front(front: Front, recipes: Sequence[Recipe], question: Question) -> PlotFile | None:
    """The metric against each cost, dominated recipes hollow; None with fewer than two recipes to weigh."""
    if len(front.entries) < 2:
        return None
    metric = question.metric
    shown = [one.recipe for one in front.entries]
    beside = len(shown) <= _NAMED and max(len(recipe.label) for recipe in shown) <= _SHORT
    with canvas(3.3, columns=len(front.costs), sharey=True) as (figure, all_axes):
        for number, (axes, cost) in enumerate(zip(all_axes, front.costs, strict=True)):
            for one in front.entries:
                if math.isinf(one.costs[number]):
                    continue
                ink = colour(list(recipes).index(one.recipe))
                filled = not one.dominated_by
                axes.plot(one.costs[number], one.quality, "o", markersize=8 if filled else 6.5, color=ink,
                          markerfacecolor=ink if filled else PAPER, markeredgewidth=1.5)  # fmt: skip
            axes.set_xlabel(_LABELS[cost])
            axes.margins(x=0.22, y=0.16)
            if cost == "ε":
                axes.set_xscale("log")
                label_logarithmic(axes.xaxis, _by_label(one.costs[number] for one in front.entries), apart=0.25)
        if not beside:
            name_series(figure, [recipe.label for recipe in recipes])
        all_axes[0].set_ylabel(f"{metric.words} (%)" if metric.is_accuracy else f"{metric.words} (nats)")
        nameless = _name(figure, all_axes, front) if beside else 0
        return finish(
            figure,
            "front",
            f"Means over the repeats of a recipe. Hollow: another recipe is as good in {metric.words} and in"
            f" {', '.join(front.costs)} (within the margin and {CLOSE:.0%}) and is shown to be better in one."
            + (f" {pluralize(nameless, 'mark')} without a name, for want of room." if nameless else ""),
        )


def _name(figure: Figure, all_axes: Sequence[Axes], front: Front) -> int:
    """Name the marks where there is room, those of the front first; how many have no name."""
    figure.draw_without_rendering()  # where the axes lie is known when they have been laid out
    entries = sorted(front.entries, key=lambda one: bool(one.dominated_by))
    return sum(
        name_marks(
            figure,
            axes,
            [
                Mark(one.costs[number], one.quality, one.recipe.label, MUTED if one.dominated_by else INK)
                for one in entries
                if not math.isinf(one.costs[number])
            ],
        )
        for number, axes in enumerate(all_axes)
    )


def draw_privacy(recipes: Sequence[Recipe], question: Question) -> PlotFile | None:
    """The metric against epsilon, with what runs without privacy reach; None unless epsilon varies."""
    private = [(recipe, spent) for recipe in recipes if (spent := recipe.mean(epsilon)) is not None]
    if len({round(spent, 3) for _, spent in private}) < 2:
        return None
    metric = question.metric
    with canvas(3.3) as (figure, (axes,)):
        for recipe in recipes:
            values = [metric.scale * value for value in recipe.measured(lambda cell: cell.metric(metric.name))]
            if values and recipe.mean(epsilon) is None:
                ink, mean = colour(list(recipes).index(recipe)), sum(values) / len(values)
                low, high = _inside(mean_interval(values, question.confidence), question)
                word = "void" if any(map(void, recipe.cells)) else "no privacy"
                axes.axhline(
                    mean, color=ink, linestyle=(0, (5, 2)), linewidth=1.4, label=f"{shortened(recipe.label)}: {word}"
                )
                if not math.isnan(low):
                    axes.axhspan(low, high, color=ink, alpha=0.13, linewidth=0)
        points = []
        for recipe, spent in sorted(private, key=lambda pair: pair[1]):
            values = [metric.scale * value for value in recipe.measured(lambda cell: cell.metric(metric.name))]
            mean = sum(values) / len(values)
            low, high = _inside(mean_interval(values, question.confidence), question)
            ink = colour(0)
            if not math.isnan(low):
                axes.plot([spent, spent], [low, high], color=ink, linewidth=2.2)
            axes.plot([spent] * len(values), values, "_", color=ink, markersize=8, alpha=0.6)
            points.append((spent, mean))
        axes.plot(*zip(*points, strict=True), "o-", color=colour(0), markersize=6, label="differentially private")
        axes.set_xscale("log")
        label_logarithmic(axes.xaxis, _by_label(spent for spent, _ in points))
        axes.set_xlabel("ε of a run (log scale)")
        axes.set_ylabel(f"{metric.words} (%)" if metric.is_accuracy else f"{metric.words} (nats)")
        axes.legend(loc="best")
        return finish(
            figure,
            "privacy",
            f"What privacy costs in {metric.words}: means with {question.confidence:.0%} intervals over the runs, each"
            " run a dash.",
        )


def _inside(interval: tuple[float, float], question: Question) -> tuple[float, float]:
    """An interval without what no share can be."""
    low, high = interval
    return (max(low, 0.0), min(high, 100.0)) if question.metric.is_accuracy and not math.isnan(low) else interval


def _by_label(epsilons: Iterable[float]) -> dict[str, float]:
    """Where the axis says ε as everything else does: rounded up, and small ones to two digits."""
    return {epsilon_text(epsilon): epsilon for epsilon in sorted(epsilons) if 0 < epsilon < math.inf}
