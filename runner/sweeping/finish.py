"""The end of a sweep: its cells' claims checked by computing, and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema import ComparisonConfig
from runner.report.cells import read_sweep
from runner.report.decision import Decision, decide_sweep
from runner.report.document import REPORT_FILE, REPORT_NAME
from runner.report.findings import find
from runner.report.question import ask
from runner.report.recipes import group
from runner.report.statements import read_statements, write_statements
from runner.report.tracked import track_report
from runner.report.update_checks import read_checks, write_checks
from runner.report.write import Report, write_report
from runner.verify.same_update import check_updates, pairs_to_check

__all__ = ["Look", "find_verdict", "finish_sweep", "look_at_results", "renew_statements", "report_page", "track_report"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the results of a sweep so far say of its question."""

    decision: Decision
    folders: frozenset[str]
    """Of the cells of recipes that are in question, from the sweep's."""


def look_at_results(sweep_dir: Path, folders: Collection[str]) -> Look:
    """Judge the results of the cells in ``folders``, at the latest planned look that they have come to.

    What else lies in ``sweep_dir``, such as the cells of later rounds of an earlier start, is not looked at.

    Raises:
        RequestError: the question does not fit them.
        RunError: a file that belongs to the sweep is damaged.
    """
    every = read_sweep(sweep_dir)
    sweep = dataclasses.replace(every, cells=tuple(cell for cell in every.cells if cell.name in folders))
    question = ask(sweep)
    grouping = group(sweep, question)
    decision = decide_sweep(grouping, question)
    open_recipes = [recipe for recipe in grouping.recipes if recipe.label in decision.in_question]
    return Look(decision=decision, folders=frozenset(cell.name for recipe in open_recipes for cell in recipe.cells))


def finish_sweep(
    sweep_dir: Path, wanted: ComparisonConfig | None = None, *, check: bool = True, name: str = REPORT_NAME
) -> Report:
    """Write the report of ``sweep_dir``, after one update of each cell that claims to compute another's.

    ``wanted`` asks another question than the sweep's own configuration does.  With ``check=False``, what an earlier
    check found stands.  Torch is imported only where there is something to compute.  ``name`` is that of the report's
    files, before their endings.

    Raises:
        RequestError: no sweep is there, or the question does not fit it.
        RunError: a file that belongs to the sweep is damaged or cannot be written.
    """
    pairs = pairs_to_check(read_sweep(sweep_dir)) if check else []
    known = {one.cells for one in read_checks(sweep_dir) if one.equal is not None}
    if {(one.name, other.name) for one, other in pairs} - known:
        write_checks(sweep_dir, list(check_updates(pairs)))
    return write_report(sweep_dir, wanted, name=name)


def renew_statements(sweep_dir: Path) -> None:
    """Settle, at the end of a sweep without a report, which of its runs may be published.

    Raises:
        RequestError: no sweep is there.
        RunError: a file that belongs to the sweep is damaged or cannot be written.
    """
    sweep = read_sweep(sweep_dir)
    write_statements(sweep, read_statements(sweep))


def find_verdict(sweep_dir: Path) -> str:
    """The answer to the question of ``sweep_dir``, in a sentence or two; raises as ``finish_sweep`` does."""
    return find(read_sweep(sweep_dir)).verdict


def report_page(sweep_dir: Path) -> Path:
    """The page of the report of ``sweep_dir``, written where it is missing; raises as ``finish_sweep`` does."""
    path = sweep_dir / REPORT_FILE
    return path if path.exists() else finish_sweep(sweep_dir).path
