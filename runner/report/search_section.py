"""What a search found: its trials by their value, the winner's test figure, and which parameters mattered."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from functools import partial

from runner.config.words.pluralize import pluralize
from runner.records.document import Bullets, Heading, Paragraph, ShellCommand, Text
from runner.report.cells import SweepResults
from runner.report.confirmation import FRESH_SEEDS, confirm_command
from runner.report.document import Part
from runner.report.findings import Findings
from runner.report.grid_plots import draw_curves
from runner.report.one_run import duration_text
from runner.report.plot_sections import drawn, section
from runner.report.recipe_table import list_failures
from runner.report.recipes import Recipe
from runner.report.search_plots import draw_history, draw_importances
from runner.report.search_records import FEWEST, Search
from runner.report.search_table import state_of, tabulate_trials
from runner.report.search_words import cell_of, describe_trial


def describe_search(findings: Findings, search: Search) -> Iterator[Part]:
    """The sections of a search."""
    sweep = findings.sweep
    yield from _confirm(sweep, search)
    yield Heading(2, "Trials")
    states = Counter(state_of(trial) for trial in search.trials)
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    yield Paragraph(f"{pluralize(len(search.trials), 'trial')}: {counts}.")
    if len(search.directions) > 1 and search.front:
        yield Paragraph("Trials that no other beats in all objectives:")
        yield Bullets([describe_trial(search, trial) for trial in search.front])
    yield from tabulate_trials(sweep, search)
    yield from drawn(partial(draw_history, search))
    yield from _importances(search)
    yield from list_failures(findings.grouping, findings.question.metric.name)
    yield from section("Learning curves", partial(draw_curves, _by_trial(findings, search)))


def _by_trial(findings: Findings, search: Search) -> list[Recipe]:
    """The run of each trial, the best first: those stand out by their colours."""
    recipes = {cell.name: (recipe, cell) for recipe in findings.grouping.recipes for cell in recipe.cells}
    found = [(trial, *recipes[trial.folder]) for trial in search.ranked() if trial.folder in recipes]
    return [
        dataclasses.replace(recipe, label=f"trial {trial.number}", cells=(cell,), blocks=((),))
        for trial, recipe, cell in found
    ]


def _confirm(sweep: SweepResults, search: Search) -> Iterator[Text]:
    """How to see what the winner is worth with seeds that did not select it."""
    best = search.best() if len(search.directions) == 1 else None
    if best is None or (cell := cell_of(sweep, best)) is None or cell.record is None:
        return
    command = confirm_command(sweep, cell)
    if command is not None:
        took = cell.record.seconds
        price = ["one run after another" if took is None else f"about {duration_text(FRESH_SEEDS * took)}"]
        price += ["each of these runs spends its ε again"] if cell.record.privacy is not None else []
        yield Paragraph(f"What it is worth on {FRESH_SEEDS} fresh seeds, which selected nothing ({'; '.join(price)}):")
        yield ShellCommand(command)


def _importances(search: Search) -> Iterator[Part]:
    if len(search.complete) < FEWEST:
        yield Paragraph(
            f"Which parameters mattered cannot be told from {pluralize(len(search.complete), 'completed trial')};"
            f" {FEWEST} are the least."
        )
        return
    if (found := search.importances()) is None:
        return
    if all(importance <= found.chance for importance in found.of.values()):
        yield Paragraph("No parameter stands out from what chance would show.")
    yield from drawn(partial(draw_importances, found, len(search.complete)))
