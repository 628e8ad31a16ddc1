"""Step times of each recipe by phase, as a table and as stacked bars."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patches import Patch

from runner.records.document import Grid
from runner.records.printable import shortened
from runner.records.step_time import PHASES, Phase, StepTime
from runner.report.grid_plots import MOST_ROWS
from runner.report.recipes import Recipe
from runner.report.style import INK, MUTED, PAPER, SERIES, PlotFile, canvas, finish

_WORDS: dict[Phase, str] = {
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "clip_and_noise": "clip and noise",
    "waiting": "waiting",
    "optimizer": "optimizer",
    "other": "other",
}
_COLOURS = dict(zip(PHASES, (*SERIES[:6], MUTED), strict=True))
_LEAST_SEEN = 5e-3
"""Phases whose share is below it in every recipe are left out."""
_LEAST_NAMED = 0.07
"""A share whose part of the bar holds its figure."""


def mean_step(recipe: Recipe) -> StepTime | None:
    """Mean over the finished cells that were timed; None where none was."""
    found = [cell.record.step_time for cell in recipe.finished if cell.record is not None]
    timed = [one for one in found if one is not None]
    return StepTime.mean(timed) if timed else None


def tabulate_steps(recipes: Sequence[Recipe]) -> Grid | None:
    """Milliseconds of a step and the share of each phase; None when nothing was timed."""
    timed = _timed(recipes)
    if not timed:
        return None
    phases = _phases(timed)
    rows = [
        [recipe.label, _milliseconds(step.seconds), *(f"{100 * step.shares[phase]:.1f}" for phase in phases)]
        for recipe, step in timed
    ]
    return Grid(["recipe", "ms a step", *(_WORDS[phase] for phase in phases)], rows, frozenset({"recipe"}))


def draw_steps(recipes: Sequence[Recipe]) -> PlotFile | None:
    """A bar a recipe, as long as its step, in the colours of the phases; None when nothing was timed."""
    timed = _timed(recipes)[:MOST_ROWS]
    if not timed:
        return None
    phases = _phases(timed)
    longest = max(step.seconds for _, step in timed)
    with canvas(1.25 + 0.36 * len(timed)) as (figure, (axes,)):
        for row, (_, step) in enumerate(timed):
            left = 0.0
            for phase in phases:
                width = 1e3 * step.seconds * step.shares[phase]
                axes.barh(row, width, left=left, height=0.58, color=_COLOURS[phase], linewidth=0)
                if step.shares[phase] * step.seconds >= _LEAST_NAMED * longest:
                    axes.annotate(f"{100 * step.shares[phase]:.0f} %", (left + width / 2, row), ha="center",
                                  va="center", fontsize=8, color=PAPER)  # fmt: skip
                left += width
            axes.annotate(f"{_milliseconds(step.seconds)} ms", (left, row), xytext=(7, 0),
                          textcoords="offset points", va="center", fontsize=8.5, color=INK)  # fmt: skip
        axes.set_yticks(range(len(timed)), [shortened(recipe.label) for recipe, _ in timed])
        axes.set_ylim(len(timed) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 1.16e3 * longest)
        axes.set_xlabel("milliseconds a step")
        handles = [Patch(color=_COLOURS[phase], linewidth=0) for phase in phases]
        figure.legend(handles, [_WORDS[phase] for phase in phases], loc="outside upper left", ncols=len(phases),
                      handlelength=1.0, columnspacing=1.3)  # fmt: skip
        return finish(
            figure,
            "steps",
            "Mean time of a step by phase, in a few timed steps of each run; evaluation and saving are no part of it.",
        )


def _timed(recipes: Sequence[Recipe]) -> list[tuple[Recipe, StepTime]]:
    found = [(recipe, mean_step(recipe)) for recipe in recipes]
    return [(recipe, step) for recipe, step in found if step is not None]


def _phases(timed: Sequence[tuple[Recipe, StepTime]]) -> list[Phase]:
    """Those that some recipe spent time in."""
    return [phase for phase in PHASES if any(step.shares[phase] >= _LEAST_SEEN for _, step in timed)]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}" if seconds < 0.1 else f"{1e3 * seconds:,.0f}"
