"""The pictures of a search: how it went, and which parameters mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.config.words.pluralize import pluralize
from runner.records.printable import printable
from runner.report.search_records import Search
from runner.report.search_words import objective_name
from runner.report.style import GRID, MUTED, PAPER, PlotFile, canvas, colour, finish

if TYPE_CHECKING:
    from runner.report.search_importance import Importances


def draw_history(search: Search) -> PlotFile | None:
    """The value of each trial and the best so far, an objective a panel; None when no trial gave a value."""
    if not search.complete:
        return None
    with canvas(3.2, columns=len(search.directions)) as (figure, all_axes):
        for objective, (axes, direction) in enumerate(zip(all_axes, search.directions, strict=True)):
            numbers = [trial.number for trial in search.complete]
            scale = 100.0 if search.is_accuracy(objective) else 1.0
            values = [scale * trial.values[objective] for trial in search.complete]
            axes.plot(numbers, values, "o", color=colour(0), markersize=5, markerfacecolor=PAPER, markeredgewidth=1.4)
            axes.step(numbers, _best_so_far(values, direction), where="post", color=colour(1))
            for state, mark in (("PRUNED", "|"), ("FAIL", "x")):
                lost = [trial.number for trial in search.trials if trial.state == state]
                # along the lower edge: they have no value to stand at
                axes.plot(lost, [0.02] * len(lost), mark, transform=axes.get_xaxis_transform(), color=MUTED,
                          markersize=6, label=state.lower())  # fmt: skip
            axes.set_xlabel("trial")
            unit = " (%)" if search.is_accuracy(objective) else ""
            axes.set_title(f"{objective_name(search, objective)}{unit}, {direction}d")
        return finish(
            figure,
            "history",
            "A ring is a trial, the line the best so far; along the lower edge a stroke is a pruned trial, a cross a"
            " failed one.",
        )


def draw_importances(found: Importances, trials: int) -> PlotFile:
    """Bars of parameter importance over the band that chance fills, from so many completed ``trials``."""
    with canvas(0.9 + 0.34 * len(found.of)) as (figure, (axes,)):
        axes.axvspan(0, found.chance, color=GRID, alpha=0.75, linewidth=0)
        for row, importance in enumerate(found.of.values()):
            axes.barh(
                row, importance, height=0.55, color=colour(0) if importance > found.chance else MUTED, linewidth=0
            )
        axes.set_yticks(range(len(found.of)), list(map(printable, found.of)))
        axes.set_ylim(len(found.of) - 0.5, -0.5)
        axes.set_xlim(0, 1.1 * max(found.chance, *found.of.values()))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("importance")
        return finish(
            figure,
            "importances",
            f"What sets the best of {pluralize(trials, 'completed trial')} apart (PED-ANOVA). Within the band lies what"
            " chance shows in 95 % of all shufflings: a grey bar is no finding.",
        )


def _best_so_far(values: Sequence[float], direction: str) -> list[float]:
    best: list[float] = []
    pick = max if direction == "maximize" else min
    for value in values:
        best.append(value if not best else pick(best[-1], value))
    return best
