"""What a sweep spends: each cell, all cells together, and the best of them; all read from the ledger.

Publishing only the best cell is accounted for like publishing all of them.  Every cell was looked at to choose, and for
a fixed grid or a search that learns from its trials no smaller bound is known; the smaller ones of Papernot and Steinke
2022 need a number of trials that was drawn beforehand and trials that were drawn independently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.config.errors import RequestError
from runner.privacy.composition import Composed
from runner.privacy.ledger import Entry, Ledger, PlannedRun, compose_entries

BEST_BY_COMPOSITION = (
    "composition: every cell was looked at to choose; smaller bounds need a number of trials drawn beforehand"
)
UNCOVERED = "evaluations on private validation data had no noise: no ε covers them, nor a choice by them"


@dataclass(frozen=True, kw_only=True)
class DataSpending:
    """What the cells of a sweep spent on one data set."""

    contents: str
    """Name of its ledger."""
    data: str
    cells: tuple[Entry, ...]
    """The private cells, those with a seed for the noise included, which are not private."""
    composed: Composed | None
    """Of publishing all cells; None when none of them is private."""

    @property
    def public(self) -> tuple[Entry, ...]:
        """The cells with ``privacy.unsafe_noise_seed``, which nothing bounds."""
        return tuple(cell for cell in self.cells if not cell.planned.private)

    @property
    def uncovered(self) -> int:
        """Evaluations on private validation data."""
        return sum(cell.uses for cell in self.cells)


def spending_of(sweep: str, ledgers: Iterable[Ledger]) -> list[DataSpending]:
    """What the cells of ``sweep`` that stand in ``ledgers`` spent, by data set.

    Raises:
        BrokenChain: a ledger is not as it was written.
        OSError: a ledger cannot be read.
    """
    found = []
    for ledger in ledgers:
        cells = tuple(entry for entry in ledger.entries() if entry.planned.sweep == sweep)
        if cells:
            found.append(
                DataSpending(
                    contents=ledger.contents,
                    data=cells[0].planned.data,
                    cells=cells,
                    composed=compose_entries(cells),
                )
            )
    return found


def admit_within(limit: float | None, run: PlannedRun, entries: Sequence[Entry]) -> None:
    """Let ``run`` start beside ``entries`` if the cells of its sweep stay within ``limit`` together.

    Cells that are under way or were killed count with all their steps.

    Raises:
        RequestError: they would not; it names the composed epsilon.
    """
    if limit is None or not run.private:
        return
    cells = [entry for entry in entries if run.sweep is not None and entry.planned.sweep == run.sweep]
    composed = compose_entries([*cells, Entry(id="", planned=run, started="")])
    assert composed is not None
    if composed.epsilon > limit:
        before = compose_entries(cells)
        spent = "nothing is spent" if before is None else f"{_up(before.epsilon)} is spent by {len(cells)} cells"
        raise RequestError(
            "privacy.sweep_epsilon",
            f"a cell with which all compose to ε={_up(composed.epsilon)} ({composed.accountant}, δ={composed.delta:g})",
            f"at most {limit:g}; {spent}",
        )


def _up(epsilon: float) -> str:
    """Two decimals, rounded up: a privacy figure may not flatter."""
    return f"{math.ceil(100.0 * epsilon) / 100.0:.2f}" if math.isfinite(epsilon) else str(epsilon)
