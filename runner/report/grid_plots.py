"""The pictures of a grid: differences, learning curves, time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.records.printable import shortened
from runner.report.cells import CellResult
from runner.report.comparison import Comparison, Verdict
from runner.report.question import Question
from runner.report.recipes import Recipe, images_per_second, seconds
from runner.report.style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    PlotFile,
    canvas,
    colour,
    finish,
    label_logarithmic,
    name_series,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 30
"""Recipes that a picture with a row each shows; the table holds them all."""


def draw_differences(comparisons: Sequence[Comparison], question: Question) -> PlotFile | None:
    """Each difference with its interval, over the band of the margin; None when there is none to show."""
    shown = list(comparisons[:MOST_ROWS])
    if not shown:
        return None
    metric, margin = question.metric, question.margin
    with canvas(1.15 + 0.36 * len(shown)) as (figure, (axes,)):
        axes.axvspan(-margin, margin, color=GRID, alpha=0.75, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        for row, one in enumerate(shown):
            ink = colour(row + 1)
            if not math.isnan(one.low):
                axes.plot([one.low, one.high], [row, row], color=ink, linewidth=2.4)
            shows = one.verdict in (Verdict.DIFFERENT, Verdict.SLIGHT)
            axes.plot(one.mean, row, "o", markersize=7, color=ink, markerfacecolor=ink if shows else PAPER)
            # beside the axes, so that it never runs into an interval
            axes.annotate(
                one.verdict, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=INK
            )
        axes.set_yticks(range(len(shown)), [shortened(one.recipe.label) for one in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        span = max(margin, *(abs(end) for one in shown for end in (one.mean, one.low, one.high) if not math.isnan(end)))
        axes.set_xlim(-1.08 * span, 1.08 * span)
        axes.set_xlabel(f"{metric.words}, difference from {shortened(shown[0].reference.label)} ({metric.unit})")
        return finish(
            figure,
            "differences",
            f"Mean difference in {metric.words} with its {question.confidence:.0%} interval; the band is the margin of"
            f" {metric.difference(margin, sign=False)}. A filled mark is a difference that is shown.",
        )


def draw_curves(recipes: Sequence[Recipe]) -> PlotFile | None:
    """Training loss and validation accuracy of every cell; None when no cell has recorded any."""
    panels = [
        ("training loss", "train", "loss"),
        ("validation accuracy (%)", "val", "accuracy"),
    ]
    panels = [panel for panel in panels if any(_curve(cell, *panel[1:])[0] for one in recipes for cell in one.cells)]
    if not panels:
        return None
    with canvas(3.4, columns=len(panels)) as (figure, all_axes):
        for axes, (title, kind, value) in zip(all_axes, panels, strict=True):
            heights: list[float] = []
            for position, recipe in reversed(list(enumerate(recipes))):
                heights += _draw_recipe(axes, recipe, kind, value, colour(position))
            axes.set_title(title)
            axes.set_xlabel("epoch")
            positive = [height for height in heights if height > 0]
            if value == "loss" and positive and max(positive) > 20 * min(positive):
                axes.set_yscale("log")
                label_logarithmic(axes.yaxis)
        name_series(figure, [recipe.label for recipe in recipes])
        return finish(
            figure,
            "curves",
            "A thin line is a cell, a thick one the mean over the cells of a recipe; a cross ends a cell that failed.",
        )


def draw_time(recipes: Sequence[Recipe]) -> PlotFile | None:
    """Wall time of a run of each recipe, training apart from the rest; None when nothing has finished."""
    shown = [recipe for recipe in recipes if recipe.measured(seconds)][:MOST_ROWS]
    if not shown:
        return None
    with canvas(0.95 + 0.36 * len(shown)) as (figure, (axes,)):
        for row, recipe in enumerate(shown):
            whole, training = recipe.mean(seconds) or 0.0, recipe.mean(training_seconds) or 0.0
            ink = colour(list(recipes).index(recipe))
            axes.barh(row, whole, height=0.58, color=ink, alpha=0.32, linewidth=0)
            axes.barh(row, min(training, whole), height=0.58, color=ink, linewidth=0)
            times = recipe.measured(seconds)
            if len(times) > 1:
                axes.plot(times, [row] * len(times), "|", color=INK, markersize=9, markeredgewidth=1.2)
            rate = recipe.mean(images_per_second)
            text = f"{whole:,.1f} s" + ("" if rate is None else f" · {rate:,.0f} images/s")
            axes.annotate(text, (max(whole, *times), row), xytext=(7, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=INK)  # fmt: skip
        axes.set_yticks(range(len(shown)), [shortened(recipe.label) for recipe in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        # room for the text behind the longest bar
        axes.set_xlim(0, 1.42 * max(max(recipe.measured(seconds)) for recipe in shown))
        axes.set_xlabel("seconds a run")
        return finish(
            figure,
            "time",
            "Mean wall time of a run; the solid part is training, the light one start-up, evaluation and saving. A"
            " stroke is a cell.",
        )


def training_seconds(cell: CellResult) -> float | None:
    """Seconds of the run that went to training, as its last training record says."""
    found = [record["seconds"] for record in cell.records if record["kind"] == "train" and "seconds" in record]
    return found[-1] if found else None


def _curve(cell: CellResult, kind: str, value: str) -> tuple[list[float], list[float]]:
    """Epochs and values; a gap where the value was not finite."""
    scale = 100.0 if value == "accuracy" else 1.0
    found = [record for record in cell.records if record["kind"] == kind and value in record]
    values = [math.nan if record[value] is None else scale * record[value] for record in found]
    return [record["epoch"] for record in found], values


def _draw_recipe(axes: Axes, recipe: Recipe, kind: str, value: str, ink: str) -> list[float]:
    """Draw the curves of a recipe and return their values."""
    curves = [(cell, *_curve(cell, kind, value)) for cell in recipe.cells]
    curves = [curve for curve in curves if curve[1]]
    for cell, epochs, values in curves:
        axes.plot(epochs, values, "o-", color=ink, markersize=4, markevery=_lone(values), linewidth=0.9,
                  alpha=0.45 if len(curves) > 1 else 1.0)  # fmt: skip
        if cell.failed:
            axes.plot(epochs[-1], values[-1], "x", color=ink, markersize=7, markeredgewidth=1.8)
    whole = [(epochs, values) for cell, epochs, values in curves if cell.finished]
    if len(whole) > 1 and all(epochs == whole[0][0] for epochs, _ in whole):
        means = [sum(column) / len(column) for column in zip(*(values for _, values in whole), strict=True)]
        axes.plot(whole[0][0], means, "o-", color=ink, markersize=5, markevery=_lone(means))
    return [height for _, _, values in curves for height in values if not math.isnan(height)]


def _lone(values: Sequence[float]) -> list[int]:
    """Indices of values without a neighbour to draw a line to, which nothing would show without a mark."""
    there = [False, *(not math.isnan(value) for value in values), False]
    return [index for index in range(len(values)) if there[index : index + 3] == [False, True, False]]
