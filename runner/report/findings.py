"""All that a report says, worked out from a sweep's files and not yet put in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.config.schema import ComparisonConfig
from runner.report.cells import SweepResults
from runner.report.comparison import Comparison, compare
from runner.report.decision import Decision, decide_sweep
from runner.report.halving_section import Halved, find_halved, limit_statement, without_stopped_reference
from runner.report.image_evidence import ImageEvidence, read_image_evidence
from runner.report.one_run import describe_run
from runner.report.pareto import Front, find_front
from runner.report.question import Question, ask
from runner.report.recipes import Grouping, group
from runner.report.search_records import Search, read_search
from runner.report.search_words import cell_of, search_verdict
from runner.report.statements import read_statements
from runner.report.verdict import headline
from runner.statement.facts import Facts


@dataclass(frozen=True)
class Findings:
    """All that was worked out from a sweep's files."""

    sweep: SweepResults
    question: Question
    grouping: Grouping
    decision: Decision | None
    """None for a search, and where there are fewer than two recipes."""
    comparisons: tuple[Comparison, ...]
    images: ImageEvidence
    front: Front
    search: Search | None
    halved: Halved | None
    """What successive halving has stopped early, which the grouping leaves out; None where it has stopped nothing."""
    statements: Mapping[str, Facts]
    """What the privacy statement of each private cell says, by the cell's name."""

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        if self.search is not None:
            found = search_verdict(self.sweep, self.search, self.question.confidence)
            return " ".join(filter(None, [found, self._winner(self.search)]))
        answer = headline(self.sweep, self.grouping, self.comparisons, self.question, self.decision, self.images)
        return answer if self.halved is None else f"{answer} {limit_statement(self.halved, self.question)}"

    def _winner(self, search: Search) -> str | None:
        """The run of the best trial in figures, of a search for one value."""
        best = search.best() if len(search.directions) == 1 else None
        cell = None if best is None else cell_of(self.sweep, best)
        if cell is None or best is None:
            return None
        fresh = ", on images that selected nothing" if self.question.metric.name.startswith("test_") else ""
        return describe_run(self.sweep, [cell], self.question.metric, head=f"Trial {best.number}{fresh}")


def find(sweep: SweepResults, wanted: ComparisonConfig | None = None) -> Findings:
    """Work out what ``sweep`` says about the question ``wanted`` (None: its own).

    Raises:
        RequestError: the question does not fit the sweep.
        RunError: a file that belongs to it is damaged.
    """
    question, halved = ask(sweep, wanted), find_halved(sweep)
    if halved is not None:
        question = without_stopped_reference(question, halved)
    grouping = group(sweep if halved is None else halved.contenders, question)
    search = read_search(sweep)
    # the trials of a search were chosen by what the earlier ones found: they are no sample of anything
    compared = search is None and len(grouping.recipes) > 1
    decision = decide_sweep(grouping, question, not_ended=sweep.not_ended) if compared else None
    return Findings(
        sweep=sweep,
        question=question,
        grouping=grouping,
        decision=decision,
        comparisons=() if decision is None else compare(grouping, question, decision),
        images=read_image_evidence(grouping, question, decision),
        front=find_front(grouping, question, decision),
        search=search,
        halved=halved,
        statements=read_statements(sweep),
    )
