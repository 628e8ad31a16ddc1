"""What the cells that have ended say so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema import ComparisonConfig
from runner.records.document import Bullets, Grid, Heading, Paragraph, ShellCommand, Text
from runner.report.cells import SweepResults, read_sweep
from runner.report.findings import Findings, find
from runner.report.question import configured
from runner.report.recipe_table import tabulate_recipes
from runner.report.search_table import tabulate_trials
from runner.report.title import title_of
from runner.report.verdict import describe_comparison

Ask = Callable[[SweepResults], ComparisonConfig | None]
"""The question to ask of what was found."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer so far, and its evidence."""

    title: str = ""
    verdict: str = "Nothing has begun here yet."
    parts: tuple[Text, ...] = ()
    by: tuple[str, ...] = ()
    """Keys that were said to make the recipes, or that a search varies; empty where nobody said."""
    searched: bool = False

    def plain(self) -> dict[str, Any]:
        """What a page shows of it."""
        return {"title": self.title, "verdict": self.verdict, "parts": [_plain(part) for part in self.parts]}


def find_answer(folder: Path, ask: Ask) -> Answer:
    """Work out what ``folder`` says by now to the question of ``ask``.

    Raises:
        RequestError: nothing has begun there, or the question does not fit it.
        RunError: a file that belongs to it is damaged.
    """
    sweep = read_sweep(folder)
    wanted = ask(sweep) or configured(sweep)
    findings = find(sweep, wanted)
    search = findings.search
    keys = findings.question.by if search is None else search.varied
    return Answer(
        title=title_of(sweep, keys),
        verdict=findings.verdict,
        parts=tuple(_evidence(findings)),
        by=tuple(wanted.by if search is None else keys),
        searched=search is not None,
    )


def _evidence(findings: Findings) -> list[Text]:
    if findings.search is not None:
        return [Heading(2, "Trials"), *tabulate_trials(findings.sweep, findings.search)]
    parts: list[Text] = list(tabulate_recipes(findings)) if len(findings.sweep.cells) > 1 else []
    if findings.comparisons:
        parts += [Heading(2, "Comparison")]
        parts += [Bullets([describe_comparison(one, findings.question) for one in findings.comparisons])]
    return parts


def _plain(part: Text) -> dict[str, Any]:
    match part:
        case Heading(_, text):
            return {"kind": "heading", "text": text}
        case Paragraph(text, _):
            return {"kind": "paragraph", "text": text}
        case Bullets(items):
            return {"kind": "bullets", "items": list(items)}
        case ShellCommand(text):
            return {"kind": "command", "text": text}
        case Grid(head, rows, words):
            return {
                "kind": "table", "head": list(head), "rows": [list(row) for row in rows], "words": sorted(words),
            }  # fmt: skip
