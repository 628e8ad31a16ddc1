"""The recipes of a sweep in a table: what was measured of each, and which runs ended without a result."""

from __future__ import annotations

import math
from collections.abc import Iterator

from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.document import Bullets, Grid, Heading, Paragraph, Text
from runner.records.printable import printable
from runner.report.findings import Findings
from runner.report.pareto import RecipePoint
from runner.report.recipes import Grouping, epsilon, images_per_second, peak_mebibytes, seconds, void
from runner.report.statistics import mean_interval

_MOST_FAILURES = 20


def tabulate_recipes(findings: Findings) -> Iterator[Text]:
    """A row a recipe, with its means and their intervals."""
    metric, keys = findings.question.metric, findings.question.by
    heads = [key.rpartition(".")[2] for key in keys]
    private = "ε" in findings.front.costs or any(map(void, findings.sweep.cells))
    points = {one.recipe.label: one for one in findings.front.entries}
    rows = []
    for recipe in findings.grouping.recipes:
        point = points.get(recipe.label)
        values = point.values if point is not None else ()
        low, high = mean_interval(values, findings.question.confidence) if values else (math.nan, math.nan)
        row = [
            *("-" if not value else printable(value) for value in recipe.values),
            f"{len(recipe.finished)} of {len(recipe.cells)}",
            metric.text(sum(values) / len(values)) if values else "-",
            "-" if math.isnan(low) else metric.interval(low, high),
            _number(recipe.mean(images_per_second)),
            _number(recipe.mean(peak_mebibytes) if point is None else point.cost("MiB", findings.front)),
            _number(recipe.mean(seconds) if point is None else point.cost("seconds", findings.front), digits=1),
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
        row.append(_front_status(point))
        rows.append(row)
    head = [*heads, "runs", metric.words, f"{findings.question.confidence:.0%} interval", "images/s", "MiB",
            "seconds", *(["ε"] if private else []), "weighed"]  # fmt: skip
    yield Heading(2, "Recipes")
    yield Grid(head, rows, frozenset({"weighed", *heads}))
    if any(len(recipe.cells) > 1 for recipe in findings.grouping.recipes):
        shared = "that all measured recipes share" if findings.front.shared else "of a recipe"
        crossed = ", ".join(f"`{key}`" for key in findings.grouping.crossed)
        yield Paragraph(
            f"Figures are means over the repeats {shared}, whose runs differ in {crossed or 'nothing'}; intervals are t"
            " intervals of the mean. A recipe is dominated where another is shown, by paired runs, to be better in one"
            " figure and is in the mean no worse in any."
        )


def list_failures(grouping: Grouping, metric: str) -> Iterator[Text]:
    """The cells without a finite ``metric``, and why."""
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


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _front_status(point: RecipePoint | None) -> str:
    if point is None:
        return "-"
    if not point.dominated_by:
        return "on the front"
    return f"dominated by {point.dominated_by[0]} ({', '.join(point.beaten_in)})"
