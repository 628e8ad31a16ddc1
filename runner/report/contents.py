"""The contents of a report: the answer, its evidence, its price, how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

from runner.config.words.pluralize import pluralize
from runner.records.document import Bullets, Grid, Heading, Paragraph
from runner.report.budgets import describe_budget, optimism, warnings
from runner.report.comparison import Comparison, Verdict
from runner.report.document import Part
from runner.report.findings import Findings
from runner.report.front_plots import draw_front
from runner.report.grid_plots import draw_curves, draw_differences, draw_time
from runner.report.halving_section import describe_halving
from runner.report.image_words import tabulate_images
from runner.report.pareto import Front
from runner.report.plot_sections import drawn, section
from runner.report.privacy_section import state_spending, warn_internal
from runner.report.provenance import left_out, repeat
from runner.report.question import Question
from runner.report.recipe_table import list_failures, tabulate_recipes
from runner.report.recipes import Grouping
from runner.report.search_section import describe_search
from runner.report.statements import state_all
from runner.report.step_time import draw_steps, tabulate_steps
from runner.report.title import title_of
from runner.report.update_checks import describe_check, read_checks
from runner.report.verdict import count_seeds, describe_comparison


def write_down(findings: Findings) -> list[Part]:
    """The parts of the report."""
    sweep = findings.sweep
    keys = findings.question.by if findings.search is None else findings.search.varied
    return [
        Heading(1, title_of(sweep, keys)),
        Paragraph(findings.verdict, lead=True),
        *warn_internal(sweep.folder),
        *(_grid(findings) if findings.search is None else describe_search(findings, findings.search)),
        *left_out(sweep),
        *state_spending(findings),
        *state_all(sweep, findings.statements),
        *repeat(sweep),
    ]


def _grid(findings: Findings) -> Iterator[Part]:
    """The recipes of a grid, or the one of a run, with what sets them apart."""
    recipes = findings.grouping.recipes
    yield from _choice(findings.front, findings.question)
    yield from tabulate_recipes(findings)
    if findings.halved is not None:
        yield from describe_halving(findings.halved, findings.question)
    yield from list_failures(findings.grouping, findings.question.metric.name)
    yield from _comparison(findings)
    yield from section("Learning curves", partial(draw_curves, recipes))
    yield from section(
        "What it costs",
        partial(draw_time, recipes),
        partial(draw_front, findings.front, recipes, findings.question),
    )
    yield from _steps(findings.grouping)


def _choice(front: Front, question: Question) -> Iterator[Part]:
    if len(front.entries) > 1 and len(front.best) <= 6:
        weighed = f"{question.metric.words}, {', '.join(front.costs[:-1])} and {front.costs[-1]}"
        yield Paragraph(f"Weighing {weighed}, no recipe is shown to dominate {' or '.join(front.best)}.")


def _comparison(findings: Findings) -> Iterator[Part]:
    comparisons, question = findings.comparisons, findings.question
    checks = read_checks(findings.sweep.folder)
    if not comparisons and not checks:
        return
    yield Heading(2, "Comparison")
    if comparisons:
        yield Bullets([describe_comparison(one, question) for one in comparisons])
        yield from drawn(partial(draw_differences, comparisons, question))
        yield _tests(comparisons, question)
        yield Paragraph(_method(comparisons, question))
        yield from tabulate_images(findings.images, findings.grouping.recipes[0].label, question)
    if (budget := describe_budget(findings.grouping)) is not None:
        yield Paragraph(budget)
    notes = warnings(findings.grouping)
    if (caution := optimism(findings.grouping, question.metric)) is not None:
        notes.append(caution)
    if notes:
        yield Bullets(notes)
    if checks:
        yield Paragraph("Cells that differ in performance settings only, one update computed by each:")
        yield Bullets([describe_check(check) for check in checks])


def _tests(comparisons: Sequence[Comparison], question: Question) -> Grid:
    unit = question.metric.unit
    digits = 2 if question.metric.is_accuracy else 4
    head = ["recipe", "runs", f"difference ({unit})", f"{question.confidence:.0%} interval", "p different",
            "p equivalent", "seeds needed", "verdict"]  # fmt: skip
    rows = [
        [
            one.recipe.label,
            pluralize(one.runs[0], "pair") if one.paired else f"{one.runs[0]} and {one.runs[1]}",
            f"{one.mean:+.{digits}f}",
            "-" if math.isnan(one.low) else f"{one.low:+.{digits}f} to {one.high:+.{digits}f}",
            "-" if math.isnan(one.low) else f"{one.p_different:.2g}",
            "-" if math.isnan(one.low) else f"{one.p_equivalent:.2g}",
            _seeds(one),
            one.verdict,
        ]
        for one in comparisons
    ]
    return Grid(head, rows, frozenset({"recipe", "verdict"}))


def _seeds(comparison: Comparison) -> str:
    if comparison.verdict is not Verdict.UNDECIDED or math.isnan(comparison.seeds_needed):
        return "-"
    return f"{count_seeds(comparison.seeds_needed)} ({' to '.join(map(count_seeds, comparison.seeds_between))})"


def _method(comparisons: Sequence[Comparison], question: Question) -> str:
    margin = question.metric.difference(question.margin, sign=False)
    kinds = {one.paired for one in comparisons}
    test = {
        frozenset({True}): "Paired t-tests: runs are paired by everything that they share, the seed above all",
        frozenset({False}): "Welch's t-tests, because the recipes share no seeds",
    }.get(frozenset(kinds), "Paired t-tests, and Welch's where the recipes share no seeds")
    holm = (
        f" P-values are adjusted by Holm's method for {len(comparisons)} comparisons; intervals are not."
        if len(comparisons) > 1
        else ""
    )
    different = any(one.verdict is Verdict.SLIGHT for one in comparisons)
    both = (
        " A difference can be shown and be shown to be smaller than the margin: then both stand." if different else ""
    )
    return (
        f"{test}. Equivalence: two one-sided tests against a margin of {margin}, each at {question.level:.0%}, which is"
        f" the {1 - 2 * question.level:.0%} interval inside the margin.{holm}{both}"
    )


def _steps(grouping: Grouping) -> Iterator[Part]:
    table = tabulate_steps(grouping.recipes)
    if table is None:
        return
    yield Heading(2, "Where the step's time went")
    yield table
    yield Paragraph(
        "Milliseconds of a step and the share of each phase in %, in the last session of a run that was taken up again."
    )
    yield from drawn(partial(draw_steps, grouping.recipes))
