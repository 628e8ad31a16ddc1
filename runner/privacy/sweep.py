"""What a sweep spends: each cell, all cells together, and the best of them; all read from the ledger.

Publishing only the best cell is accounted for like publishing all of them.  Every cell was looked at to choose, and for
a fixed grid or a search that learns from its trials no smaller bound is known.  Where the trials and their number were
drawn beforehand (``random_stopping.py``), the smaller bound holds once all of them have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.config.counted import counted
from runner.config.errors import RequestError
from runner.config.privacy_figures import delta_text, epsilon_text
from runner.privacy.composition import Composed, Spent
from runner.privacy.ledger import Entry, Ledger, PlannedRun, compose_entries
from runner.privacy.random_stopping import Selection, epsilon_of_best

BEST_BY_COMPOSITION = (
    "composition: every cell was looked at to choose; smaller bounds need a number of trials drawn beforehand"
)
BEST_BY_RANDOM_STOPPING = (
    "random stopping: trials and their number were drawn beforehand; nothing of the other trials, nor how many they"
    " were, may be published"
)
BEST_IS_OPEN = "composition, as long as not all of the trials that were drawn have ended"
UNCOVERED = "on private validation data without noise, which no ε covers, nor a choice by it"


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
    best: Composed | None
    """Of publishing the best; None when none of them is private."""
    best_by: str
    """Why that much."""

    @property
    def public(self) -> tuple[Entry, ...]:
        """The cells with ``privacy.unsafe_noise_seed``, which nothing bounds."""
        return tuple(cell for cell in self.cells if not cell.planned.private)

    @property
    def uncovered(self) -> int:
        """Evaluations on private validation data."""
        return sum(cell.uses for cell in self.cells)


def spending_of(sweep: str, ledgers: Iterable[Ledger], selection: Selection | None = None) -> list[DataSpending]:
    """What the cells of ``sweep`` that stand in ``ledgers`` spent, by data set.

    ``selection`` is what was drawn for the sweep beforehand; None for one that was fixed, or learns from its trials.

    Raises:
        BrokenChain: a ledger is not as it was written.
        OSError: a ledger cannot be read.
    """
    found = []
    for ledger in ledgers:
        cells = tuple(entry for entry in ledger.entries() if entry.planned.sweep == sweep)
        if cells:
            composed = compose_entries(cells)
            best, best_by = composed, BEST_BY_COMPOSITION
            if selection is not None:
                best, best_by = composed, BEST_IS_OPEN
                if len({cell.planned.folder for cell in cells if cell.status != "running"}) == selection.trials:
                    best, best_by = best_of(cells[0].planned, selection), BEST_BY_RANDOM_STOPPING
            found.append(
                DataSpending(
                    contents=ledger.contents,
                    data=cells[0].planned.data,
                    cells=cells,
                    composed=composed,
                    best=best,
                    best_by=best_by,
                )
            )
    return found


def admit_within(
    limit: float | None, run: PlannedRun, entries: Sequence[Entry], selection: Selection | None = None
) -> None:
    """Let ``run`` start beside ``entries`` if the cells of its sweep stay within ``limit`` together.

    Cells that are under way or were killed count with all their steps.  Where the best of a random number of trials is
    published, they must all be the same mechanism, and it is the best that the limit is for.

    Raises:
        RequestError: they would not; it names the epsilon.
    """
    cells = [entry for entry in entries if run.sweep is not None and entry.planned.sweep == run.sweep]
    if selection is not None:
        _admit_trial(limit, run, cells, selection)
        return
    if limit is None or not run.private:
        return
    composed = compose_entries([*cells, Entry(id="", planned=run, started="")])
    assert composed is not None
    if composed.epsilon > limit:
        before = compose_entries(cells)
        spent = (
            "nothing is spent" if before is None else f"{epsilon_text(before.epsilon)} is spent by {len(cells)} cells"
        )
        raise RequestError(
            "privacy.sweep_epsilon",
            f"a cell with which all compose to {_described_sum(composed)}",
            f"at most {limit:g}; {spent}",
        )


def admit_grid(limit: float | None, runs: Sequence[PlannedRun], selection: Selection | None) -> None:
    """``admit_within`` for all ``runs`` of a grid on one data set before the first of them.

    Raises:
        RequestError: they would pass ``limit`` together; it says how many would not.
    """
    entries = [Entry(id="", planned=run, started="") for run in runs]
    if selection is not None:
        for number, run in enumerate(runs):
            _admit_trial(limit, run, entries[:number], selection)
        return
    together = compose_entries(entries)
    if limit is None or together is None or together.epsilon <= limit:
        return
    fits, fails = 0, len(entries)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        composed = compose_entries(entries[:middle])
        fits, fails = (middle, fails) if composed is None or composed.epsilon <= limit else (fits, middle)
    raise RequestError(
        "privacy.sweep_epsilon",
        f"{len(entries)} cells that compose to {_described_sum(together)}",
        f"at most {limit:g}, which the first {counted(fits, 'cell')} keep to",
    )


def _admit_trial(limit: float | None, run: PlannedRun, cells: Sequence[Entry], selection: Selection) -> None:
    for cell in cells:
        if _mechanism(cell.planned) != _mechanism(run):
            raise RequestError(
                "privacy.selection",
                f"a trial with {_described(run)} after one with {_described(cell.planned)}",
                "the same sampling rate, noise, length and delta in every trial for random_stopping",
            )
    best = best_of(run, selection)
    if limit is not None and best.epsilon > limit:
        raise RequestError(
            "privacy.sweep_epsilon",
            f"trials of which publishing the best costs ε={epsilon_text(best.epsilon)} (rdp, δ={best.delta:g})",
            f"at most {limit:g}",
        )


def best_of(run: PlannedRun, selection: Selection) -> Composed:
    """What publishing the best of trials like ``run`` spends when their number is drawn as ``selection`` says."""
    spent = Spent(sample_rate=run.sample_rate, noise_multiplier=run.noise_multiplier, steps=run.steps)
    epsilon = epsilon_of_best(spent, selection.count, delta=run.delta)
    return Composed(epsilon=epsilon, delta=run.delta, accountant="rdp")


def _described_sum(together: Composed) -> str:
    if together.void:
        return f"no known bound (void: {together.void[0]})"
    return f"ε={epsilon_text(together.epsilon)} ({together.accountant}, δ={delta_text(together.delta)})"


def _mechanism(run: PlannedRun) -> tuple[float, float, int, float]:
    return run.sample_rate, run.noise_multiplier, run.steps, run.delta


def _described(run: PlannedRun) -> str:
    return f"q={run.sample_rate:g}, noise {run.noise_multiplier:g}, {run.steps} steps, δ={run.delta:g}"
