"""The pictures of a search: how it went, and which parameters mattered."""

from __future__ import annotations

from collections.abc import Sequence

from runner.records.printable import printable
from runner.report.search_records import Search
from runner.report.style import INK, MUTED, PAPER, PlotFile, canvas, colour, finish


def draw_history(search: Search) -> PlotFile | None:
    """The value of each trial and the best so far, an objective a panel; None when no trial gave a value."""
    if not search.complete:
        return None
    with canvas(3.2, columns=len(search.directions)) as (figure, all_axes):
        for objective, (axes, direction) in enumerate(zip(all_axes, search.directions, strict=True)):
            numbers = [trial.number for trial in search.complete]
            values = [trial.values[objective] for trial in search.complete]
            axes.plot(numbers, values, "o", color=colour(0), markersize=5, markerfacecolor=PAPER, markeredgewidth=1.4)
            axes.step(numbers, _best_so_far(values, direction), where="post", color=colour(1))
            for state, mark in (("PRUNED", "|"), ("FAIL", "x")):
                lost = [trial.number for trial in search.trials if trial.state == state]
                # along the lower edge: they have no value to stand at
                axes.plot(lost, [0.02] * len(lost), mark, transform=axes.get_xaxis_transform(), color=MUTED,
                          markersize=6, label=state.lower())  # fmt: skip
            axes.set_xlabel("trial")
            axes.set_title(f"objective {objective + 1}, {direction}d" if len(all_axes) > 1 else f"value, {direction}d")
        return finish(
            figure,
            "history",
            "A ring is a trial, the line the best so far; along the lower edge a stroke is a pruned trial, a cross a"
            " failed one.",
        )


def draw_importances(search: Search) -> PlotFile | None:
    """Bars of parameter importance, by the first objective; None where they cannot be told."""
    found = search.importances()
    if not found:
        return None
    with canvas(0.9 + 0.34 * len(found)) as (figure, (axes,)):
        for row, share in enumerate(found.values()):
            axes.barh(row, share, height=0.55, color=colour(0), linewidth=0)
            axes.annotate(f"{share:.0%}", (share, row), xytext=(6, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=INK)  # fmt: skip
        axes.set_yticks(range(len(found)), list(map(printable, found)))
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlim(0, 1.1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of importance")
        return finish(
            figure,
            "importances",
            f"What sets the best of {len(search.complete)} completed trials apart (PED-ANOVA): a hint if they are few.",
        )


def _best_so_far(values: Sequence[float], direction: str) -> list[float]:
    best: list[float] = []
    pick = max if direction == "maximize" else min
    for value in values:
        best.append(value if not best else pick(best[-1], value))
    return best
