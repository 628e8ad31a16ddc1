"""The runs of a ledger as a table for a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.privacy.accounting.privacy_text import epsilon_text
from runner.privacy.ledger.ledger import Entry

_WIDE = 100
"""Columns from which the rate of sampling and the noise find room in the table."""


def _shown_epsilon(entry: Entry, not_private: str) -> str:
    if not entry.planned.private:
        return not_private
    return epsilon_text(entry.epsilon) if entry.void is None else "void"


def table_text(entries: Sequence[Entry], width: int) -> str:
    """A line for each of ``entries``, in ``width`` columns."""
    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("started")
    table.add_column("run, in its folder", overflow="fold")
    table.add_column("status")
    for name in ("steps", "of", *(("q", "noise") if wide else ()), "val uses" if wide else "val\nuses", "δ", "ε"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in entries:
        planned = entry.planned
        cells = (
            entry.started[:16].replace("T", "\n"),
            f"{planned.name}\n{planned.folder}",
            entry.status.replace("_", "\n"),
            str(entry.steps),
            str(planned.steps),
            *((f"{planned.sample_rate:.4g}", f"{planned.noise_multiplier:.4g}") if wide else ()),
            str(entry.uses),
            f"{planned.delta:g}",
            _shown_epsilon(entry, "not private" if wide else "not\nprivate"),
        )
        table.add_row(*map(Text, cells))
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines() if line.strip())
