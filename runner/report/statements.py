"""The privacy statements of a sweep's private runs within its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from runner.records.document import Heading, Paragraph, Text
from runner.report.cells import CellResult, SweepResults
from runner.report.document import Folded, Part
from runner.statement.facts import Books, Facts, gather
from runner.statement.words import TITLE, state, verdict
from runner.statement.write import STATEMENT_FILE, write_statement

_MOST = 24


def read_statements(sweep: SweepResults) -> Mapping[str, Facts]:
    """Name of a private cell -> what its statement says.

    Raises:
        RunError: a file that it rests on is damaged.
    """
    books, found = Books(), {}
    for cell in sweep.cells:
        if cell.record is None or cell.semantic("privacy") is None:
            continue
        facts = gather(
            cell.folder,
            cell.record,
            books,
            ledger_dir=_typed(cell, "ledger_dir"),
            drawn=_typed(cell, "selection") == "random_stopping",
            sweep_dir=None if cell.folder == sweep.folder else sweep.folder,
        )
        if facts is not None:
            found[cell.name] = facts
    return found


def write_statements(sweep: SweepResults, statements: Mapping[str, Facts]) -> None:
    """Write each into the folder of its cell.

    Raises:
        RunError: one cannot be written.
    """
    for cell in sweep.cells:
        if cell.name in statements:
            write_statement(cell.folder, statements[cell.name])


def state_all(sweep: SweepResults, statements: Mapping[str, Facts]) -> Iterator[Part]:
    """A single run's statement as a section; those of a sweep's cells one below the other, folded."""
    if not statements:
        return
    if sweep.cells[0].folder == sweep.folder:
        yield Heading(2, TITLE)
        yield from _lowered(state(statements[sweep.cells[0].name]))
        return
    yield Heading(2, f"{TITLE}s")
    for name, facts in list(statements.items())[:_MOST]:
        yield Folded(f"{name}: {verdict(facts)}", _lowered(state(facts)), f"{name}/{STATEMENT_FILE}")
    if len(statements) > _MOST:
        yield Paragraph(f"The other {len(statements) - _MOST:,} are in the folders of their cells: `{STATEMENT_FILE}`.")


def _lowered(parts: Sequence[Text]) -> list[Text]:
    """``parts`` with each heading one level down."""
    return [dataclasses.replace(part, level=part.level + 1) if isinstance(part, Heading) else part for part in parts]


def _typed(cell: CellResult, key: str) -> str | None:
    privacy = cell.config.get("privacy")
    value = privacy.get(key) if isinstance(privacy, Mapping) else None
    return None if value is None else str(value)
