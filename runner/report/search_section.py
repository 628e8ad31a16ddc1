"""What a search found: its trials by their value, the winner's test figure, and which parameters mattered."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from functools import partial

from runner.config.words.pluralize import pluralize
from runner.records.document import Bullets, Grid, Heading, Paragraph, ShellCommand, Text
from runner.report.cells import SweepResults
from runner.report.confirmation import FRESH_SEEDS, Confirmed, confirm_command, confirmed
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
from runner.report.search_words import cell_of, count_fresh, describe_trial, mean_text, objective_name, objective_text


def describe_search(findings: Findings, search: Search) -> Iterator[Part]:
    """The sections of a search."""
    sweep = findings.sweep
    yield from _confirm(sweep, search, findings.question.confidence)
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


def _confirm(sweep: SweepResults, search: Search, confidence: float) -> Iterator[Text]:
    """What the winner is worth with seeds that did not select it, or how to see that."""
    best = search.best() if len(search.directions) == 1 else None
    if best is None or (cell := cell_of(sweep, best)) is None or cell.record is None:
        return
    if (found := confirmed(sweep, search)) is not None:
        yield from _tabulate_seeds(search, found, confidence)
        return
    command = confirm_command(sweep, cell)
    if command is not None:
        took = cell.record.seconds
        price = ["one run after another" if took is None else f"about {duration_text(FRESH_SEEDS * took)}"]
        price += ["each of these runs spends its ε again"] if cell.record.privacy is not None else []
        yield Paragraph(
            f"What it is worth on {FRESH_SEEDS} fresh seeds, which selected nothing ({'; '.join(price)}); the search"
            f" does the same at its end with hydra.sweeper.confirm={FRESH_SEEDS}:"
        )
        yield ShellCommand(command)


def _tabulate_seeds(search: Search, found: Confirmed, confidence: float) -> Iterator[Text]:
    """The winner's runs on fresh seeds."""
    name = "test_accuracy" if found.tested("test_accuracy") else "test_loss"
    text = (lambda value: f"{100 * value:.2f} %") if name == "test_accuracy" else "{:.4f}".format
    if tested := found.tested(name):
        figure = f"{name.replace('_', ' ')} {mean_text(tested, text, confidence)}"
        yield Paragraph(f"On {count_fresh(found)} and the test images, neither of which selected anything: {figure}.")
    rows = []
    for cell in found.cells:
        value = Confirmed((cell,), found.objective).values
        own = Confirmed((cell,), found.objective).tested(name)
        rows.append(
            [
                cell.value("seed") or "-",
                objective_text(search, 0, value[0]) if value else "-",
                text(own[0]) if own else "-",
                cell.status.replace("_", " "),
            ]
        )
    yield Grid(["seed", objective_name(search, 0), name.replace("_", " "), "status"], rows, frozenset({"status"}))


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
