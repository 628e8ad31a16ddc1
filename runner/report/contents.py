"""The contents of a report: the answer, its evidence, its price, how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.config.schema import ComparisonConfig
from runner.config.words.pluralize import pluralize
from runner.disk.json_files import read_json
from runner.errors import RunError
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.document import Bullets, Grid, Heading, Paragraph
from runner.records.printable import printable
from runner.report.budgets import describe_budget, warnings
from runner.report.cells import SweepResults
from runner.report.comparison import Comparison, Verdict, compare
from runner.report.document import Part
from runner.report.front_plots import draw_front, draw_privacy
from runner.report.grid_plots import draw_curves, draw_differences, draw_time
from runner.report.pareto import Front, find_front
from runner.report.plot_sections import drawn, section
from runner.report.provenance import left_out, repeat
from runner.report.question import Question, ask
from runner.report.recipes import Grouping, epsilon, group, images_per_second, peak_mebibytes, seconds, void
from runner.report.search_plots import describe_trial, draw_history, draw_importances
from runner.report.search_records import Search, read_search
from runner.report.statements import read_statements, state_all
from runner.report.statistics import MOST_RUNS, mean_interval
from runner.report.step_time import draw_steps, tabulate_steps
from runner.report.update_checks import describe_check, read_checks
from runner.report.verdict import describe_comparison, headline
from runner.statement.facts import Facts

PRIVACY_FILE = "privacy.json"
_MOST_FAILURES = 20
_WORDS = frozenset({"weighed", "verdict", "cell", "recipe", "against", "data"})


@dataclass(frozen=True)
class Findings:
    """All that was worked out from a sweep's files."""

    sweep: SweepResults
    question: Question
    grouping: Grouping
    comparisons: tuple[Comparison, ...]
    front: Front
    search: Search | None
    statements: Mapping[str, Facts]
    """What the privacy statement of each private cell says, by the cell's name."""

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        if self.search is not None:
            return _search_verdict(self.search)
        return headline(self.sweep, self.grouping, self.comparisons, self.question)


def find(sweep: SweepResults, wanted: ComparisonConfig | None = None) -> Findings:
    """Work out what ``sweep`` says about the question ``wanted`` (None: its own).

    Raises:
        RequestError: the question does not fit the sweep.
        RunError: a file that belongs to it is damaged.
    """
    question = ask(sweep, wanted)
    grouping = group(sweep, question)
    search = read_search(sweep)
    return Findings(
        sweep=sweep,
        question=question,
        grouping=grouping,
        # the trials of a search were chosen by what the earlier ones found: they are no sample of anything
        comparisons=() if search is not None else compare(grouping, question),
        front=find_front(grouping.recipes, question),
        search=search,
        statements=read_statements(sweep),
    )


def write_down(findings: Findings) -> list[Part]:
    """The parts of the report."""
    sweep = findings.sweep
    kind = "Search" if findings.search else "Run" if len(sweep.cells) == 1 else "Sweep"
    return [
        Heading(1, f"{kind} {sweep.folder.resolve().name}"),
        Paragraph(findings.verdict, lead=True),
        *_internal(sweep.folder),
        *_choice(findings.front, findings.question),
        *_recipes(findings),
        *_failures(findings.grouping, findings.question.metric.name),
        *left_out(sweep),
        *_comparison(findings),
        *section("Learning curves", partial(draw_curves, findings.grouping.recipes)),
        *_searched(findings.search),
        *section(
            "What it costs",
            partial(draw_time, findings.grouping.recipes),
            partial(draw_front, findings.front, findings.grouping.recipes, findings.question),
        ),
        *_steps(findings.grouping),
        *_privacy(findings),
        *state_all(sweep, findings.statements),
        *repeat(sweep),
    ]


def _internal(folder: Path) -> Iterator[Part]:
    """Says of a sweep of drawn trials (random stopping) that what the report shows may not leave."""
    try:
        kept = read_json(folder / PRIVACY_FILE)["publishable"]["internal"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    yield Paragraph(f"Internal, not to be published: this report shows {kept}.")


def _choice(front: Front, question: Question) -> Iterator[Part]:
    if len(front.entries) > 1 and len(front.best) <= 6:
        weighed = f"{question.metric.words}, {', '.join(front.costs[:-1])} and {front.costs[-1]}"
        yield Paragraph(f"Weighing the means of {weighed}, no recipe dominates {' or '.join(front.best)}.")


def _recipes(findings: Findings) -> Iterator[Part]:
    metric, keys = findings.question.metric, findings.question.by
    heads = [key.rpartition(".")[2] for key in keys]
    private = "ε" in findings.front.costs or any(map(void, findings.sweep.cells))
    dominated = {one.recipe.label: one.dominated_by for one in findings.front.entries}
    rows = []
    for recipe in findings.grouping.recipes:
        values = [metric.scale * value for value in recipe.by_block(metric.name).values()]
        low, high = mean_interval(values, findings.question.confidence) if values else (math.nan, math.nan)
        row = [
            *("-" if not value else printable(value) for value in recipe.values),
            f"{len(recipe.finished)} of {len(recipe.cells)}",
            metric.text(sum(values) / len(values)) if values else "-",
            "-" if math.isnan(low) else metric.interval(low, high),
            _number(recipe.mean(images_per_second)),
            _number(recipe.mean(peak_mebibytes)),
            _number(recipe.mean(seconds), digits=1),
        ]
        if private:
            spent = recipe.measured(epsilon)
            row.append(
                "void"
                if any(void(cell) for cell in recipe.cells)
                else epsilon_text(max(spent))
                if spent
                else "no privacy"
                if recipe.finished
                else "-"
            )
        row.append(_front_status(dominated.get(recipe.label)))
        rows.append(row)
    head = [*heads, "runs", metric.words, f"{findings.question.confidence:.0%} interval", "images/s", "MiB",
            "seconds", *(["ε"] if private else []), "weighed"]  # fmt: skip
    yield Heading(2, "Recipes")
    yield Grid(head, rows, _WORDS | set(heads))
    if any(len(recipe.cells) > 1 for recipe in findings.grouping.recipes):
        crossed = ", ".join(f"`{key}`" for key in findings.grouping.crossed)
        yield Paragraph(
            f"Figures are means over the runs of a recipe, which differ in {crossed or 'nothing'}; intervals are t"
            " intervals of the mean."
        )


def _failures(grouping: Grouping, metric: str) -> Iterator[Part]:
    lost = [
        (cell, recipe)
        for recipe in grouping.recipes
        for cell in recipe.cells
        if not cell.finished or math.isnan(cell.metric(metric))
    ]
    if not lost:
        return
    yield Heading(2, "Cells without a result")
    items = [
        f"{cell.name} ({recipe.label}): {cell.status.replace('_', ' ')}"
        f"{f' without a finite {metric}' if cell.finished else ''}{f', {cell.error}' if cell.error else ''}"
        for cell, recipe in lost[:_MOST_FAILURES]
    ]
    if len(lost) > _MOST_FAILURES:
        items.append(f"and {len(lost) - _MOST_FAILURES} more: see table.csv")
    yield Bullets(items)


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
    if (budget := describe_budget(findings.grouping)) is not None:
        yield Paragraph(budget)
    if notes := warnings(findings.grouping):
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
            f"{one.runs[0]} pairs" if one.paired else f"{one.runs[0]} and {one.runs[1]}",
            f"{one.mean:+.{digits}f}",
            "-" if math.isnan(one.low) else f"{one.low:+.{digits}f} to {one.high:+.{digits}f}",
            "-" if math.isnan(one.low) else f"{one.p_different:.2g}",
            "-" if math.isnan(one.low) else f"{one.p_equivalent:.2g}",
            _seeds(one),
            one.verdict,
        ]
        for one in comparisons
    ]
    return Grid(head, rows, _WORDS)


def _seeds(comparison: Comparison) -> str:
    needed = comparison.seeds_needed
    if comparison.verdict is not Verdict.UNDECIDED or math.isnan(needed):
        return "-"
    return f"over {MOST_RUNS:,}" if math.isinf(needed) else f"{needed:,.0f}"


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


def _searched(search: Search | None) -> Iterator[Part]:
    if search is None:
        return
    yield Heading(2, "Search")
    states: dict[str, int] = {}
    for trial in search.trials:
        states[trial.state] = states.get(trial.state, 0) + 1
    yield Paragraph(f"{len(search.trials)} trials: {', '.join(f'{n} {state.lower()}' for state, n in states.items())}.")
    if len(search.directions) > 1 and search.front:
        yield Paragraph("Trials that no other beats in all objectives:")
        yield Bullets([describe_trial(trial) for trial in search.front])
    yield from drawn(partial(draw_history, search), partial(draw_importances, search))


def _search_verdict(search: Search) -> str:
    best = search.best()
    if best is None:
        return f"No trial of {len(search.trials)} has given a value yet."
    if len(search.directions) > 1:
        return f"{len(search.front)} of {len(search.complete)} completed trials are beaten by none in all objectives."
    return f"Best of {len(search.complete)} completed trials: {describe_trial(best)}."


def _privacy(findings: Findings) -> Iterator[Part]:
    picture = drawn(partial(draw_privacy, findings.grouping.recipes, findings.question))
    path = findings.sweep.folder / PRIVACY_FILE
    reasons = list(dict.fromkeys(reason for cell in findings.sweep.cells if (reason := void(cell)) is not None))
    spent = []
    if path.exists():
        try:
            found = read_json(path)
            spent = [_spending(data, reasons) for data in found.get("data", []) if data["publish_all"] is not None]
            ordinary = found.get("cells_without_privacy", 0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{PRIVACY_FILE}: not a record of what was spent ({error})") from error
    if not picture and not spent and not reasons:
        return
    yield Heading(2, "Privacy")
    if reasons:
        yield Bullets([f"void: {reason}." for reason in reasons])
    if spent:
        head = ["data", "private cells", "each cell, ε", "publishing all, ε", "publishing the best, ε", "δ"]
        yield Grid(head, [row for row, _ in spent], _WORDS)
        notes = [note for _, notes in spent for note in notes]
        if ordinary:
            notes.append(f"{pluralize(ordinary, 'cell')} ran without privacy, which no ε covers.")
        yield Bullets(list(dict.fromkeys(notes)))
    yield from picture


def _spending(data: dict, reasons: Sequence[str]) -> tuple[list[str], list[str]]:
    """A row of figures, and what must be said of them; ``reasons`` why those of some cells do not hold."""
    everything, best = data["publish_all"], data["publish_best"]
    private = [cell for cell in data["cells"] if cell.get("private", cell["epsilon"] is not None)]
    each = [cell["epsilon"] for cell in private]
    if reasons or None in each or None in (everything["epsilon"], best["epsilon"]):
        # an earlier version may have written figures there that do not hold
        row = [str(data["data"]), str(len(private)), "void", "void", "void", f"{everything['delta']:g}"]
        return row, list(data.get("void", []))
    low, high = epsilon_text(min(each)), epsilon_text(max(each))
    row = [
        str(data["data"]),
        str(len(each)),
        low if low == high else f"{low} to {high}",
        epsilon_text(everything["epsilon"]),
        epsilon_text(best["epsilon"]),
        f"{everything['delta']:g}",
    ]
    notes = [f"All cells together: {everything['accountant']} composition. The best: {best['by']}."]
    if data["note"]:
        notes.append(f"{data['evaluations_without_noise']} {data['note']}.")
    if data["cells_not_private"]:
        notes.append(
            f"Not private at all, by `privacy.unsafe_noise_seed`: {pluralize(data['cells_not_private'], 'cell')}."
        )
    return row, notes


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _front_status(dominated_by: Sequence[str] | None) -> str:
    if dominated_by is None:
        return "-"
    return f"dominated by {dominated_by[0]}" if dominated_by else "on the front"
