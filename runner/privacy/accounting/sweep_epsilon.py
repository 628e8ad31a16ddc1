"""The epsilon of a sweep (each cell, all together, the best of them), from the ledger.

Publishing only the best cell is accounted for like publishing all of them.  Every cell was looked at to choose, and for
a fixed grid or a search that learns from its trials no smaller bound is known.  Where the trials and their number were
drawn beforehand (``random_stopping.py``), the smaller bound holds if exactly those trials were run, each once and to
its end: every start that the ledger knows counts, for a trial that is begun anew has noise of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.config.words.pluralize import pluralize
from runner.errors import RequestError, RunError, plainly
from runner.privacy.accounting.composition import Composed, Spent
from runner.privacy.accounting.privacy_text import delta_text, epsilon_text
from runner.privacy.accounting.random_stopping import TrialCount, epsilon_of_best
from runner.privacy.accounting.renyi_filter import ACCOUNTANT, Filter
from runner.privacy.accounting.renyi_filter import KIND as FILTER
from runner.privacy.accounting.stopping_draws import Draw, find_draw, refuse_drawn_before
from runner.privacy.ledger.chain import BrokenChain, Chain
from runner.privacy.ledger.ledger import Entry, Ledger, PlannedRun, compose_entries, read_entries

BEST_BY_COMPOSITION = (
    "composition: every cell was looked at to choose; smaller bounds need a number of trials drawn beforehand"
)
BEST_BY_FILTER = "the budget that was set before the first trial, whatever the search picked (a Renyi filter)"
BEST_BY_RANDOM_STOPPING = (
    "random stopping: trials and their number were drawn beforehand; nothing of the other trials, nor how many they"
    " were, may be published"
)
ENDED = ("completed", "budget_exhausted")
"""How a trial ends that was run to its end."""
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
    other_draws: int = 0
    """Further sweeps on these data whose best is chosen by random stopping."""

    @property
    def public(self) -> tuple[Entry, ...]:
        """The cells with ``privacy.unsafe_noise_seed``, which nothing bounds."""
        return tuple(cell for cell in self.cells if not cell.planned.private)

    @property
    def uncovered(self) -> int:
        """Evaluations on private validation data."""
        return sum(cell.uses for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On what terms a cell starts: what decides which account holds for its sweep."""

    limit: float | None = None
    """``privacy.sweep_epsilon``."""
    draw: Draw | None = None
    """What was drawn for the sweep beforehand."""
    learns: bool = False
    """Whether its settings may depend on the results of earlier cells."""
    split: str = ""
    """Fingerprint of the examples that it trains on."""


def spending_of(sweep: str, ledgers: Iterable[Ledger], *, drawn: bool = False) -> list[DataSpending]:
    """What the cells of ``sweep`` that stand in ``ledgers`` spent, by data set.

    ``drawn`` says that its files show nothing but the best, so that random stopping may be claimed where it holds.

    Raises:
        BrokenChain: a ledger is not as it was written.
        OSError: a ledger cannot be read.
    """
    all_lines = [(ledger, ledger.lines()) for ledger in ledgers]
    parts = [
        (ledger, lines, cells)
        for ledger, lines in all_lines
        if (cells := tuple(entry for entry in ledger.entries() if entry.planned.sweep == sweep))
    ]
    found = []
    for ledger, lines, cells in parts:
        composed, by = _together(cells, lines, sweep)
        best, line = composed, find_draw(lines, sweep) if drawn else None
        if line is not None and composed is not None:
            best, by = _best_of_drawn(cells, composed, line, alone=len(parts) == 1)
        found.append(
            DataSpending(
                contents=ledger.contents,
                data=cells[0].planned.data,
                cells=cells,
                composed=composed,
                best=best,
                best_by=by,
                other_draws=0 if line is None else _other_draws(lines, sweep),
            )
        )
    return found


def composed_spending(chain: Chain, sweep: str | None) -> Composed | None:
    """What the cells of ``sweep`` in the ledger ``chain`` spent together; None without a sweep, or a private cell.

    None as well where it may not be told: the number of trials is part of what random stopping keeps.

    Raises:
        RunError: the ledger cannot be read or is broken.
    """
    if sweep is None:
        return None
    try:
        lines = chain.read()[0]
    except OSError as error:
        raise RunError(f"the privacy ledger cannot be read: {error.strerror or error}") from error
    except BrokenChain as broken:
        raise RunError(f"the privacy ledger {chain.path.name} is broken: {broken}") from broken
    if find_draw(lines, sweep) is not None:
        return None
    return _together([entry for entry in read_entries(lines) if entry.planned.sweep == sweep], lines, sweep)[0]


def admit(terms: Terms, run: PlannedRun, entries: Sequence[Entry], lines: Sequence[Mapping[str, Any]]) -> Any:
    """Let ``run`` start beside ``entries``; the line that has to stand in the ledger before it, or None.

    Cells that are under way or were killed count with all their steps.

    Raises:
        RequestError: the cells of its sweep would pass their limit together, or no account holds for them.
    """
    if run.sweep is None:
        return None
    cells = [entry for entry in entries if entry.planned.sweep == run.sweep]
    drawn = find_draw(lines, run.sweep)
    if terms.draw is not None:
        return _admit_trial(terms, terms.draw, run, cells, lines)
    if drawn is not None:
        raise RequestError(
            "privacy.selection", "composition", "random_stopping, as the trials of this sweep were drawn"
        )
    if not run.private:
        return None
    budget = _find_filter(lines, run.sweep)
    if budget is not None or (terms.learns and terms.limit is not None and not cells):
        return _admit_within_budget(terms, run, cells, budget)
    if terms.learns:
        _require_one_mechanism(
            run, cells, "privacy.sweep_epsilon", "a budget before the first trial, because a sampler that learns"
            " may vary what changes these only within one"
        )  # fmt: skip
    _keep_to_limit(terms.limit, run, cells)
    return None


def admit_grid(
    limit: float | None, runs: Sequence[PlannedRun], count: TrialCount | None, *, in_rounds: bool = False
) -> None:
    """``admit`` for all ``runs`` of a grid on one data set before the first of them.

    ``count`` is how the number of trials will be drawn; None for composition.  ``in_rounds`` says that more may follow
    by what they find: then ``limit`` is the budget of a Renyi filter, as it is for a search that learns.

    Raises:
        RequestError: they would pass ``limit`` together; it says how many would not.
    """
    entries = [Entry(id="", planned=run, started="") for run in runs]
    if count is not None:
        for number, run in enumerate(runs):
            _require_one_mechanism(run, entries[:number], *_ALIKE)
        _keep_best_to_limit(limit, best_of(runs[0], count))
        return
    budget = limit if in_rounds else None
    together = compose_grid(runs, budget)
    if limit is None or together is None or together.epsilon <= limit:
        return
    fits, fails = 0, len(entries)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        composed = compose_grid(runs[:middle], budget)
        fits, fails = (middle, fails) if composed is None or composed.epsilon <= limit else (fits, middle)
    raise RequestError(
        "privacy.sweep_epsilon",
        f"{len(entries)} cells that compose to {_described_sum(together)}",
        f"at most {plainly(limit)}, which the first {pluralize(fits, 'cell')} keep to",
    )


def compose_grid(runs: Sequence[PlannedRun], budget: float | None) -> Composed | None:
    """What the cells of a grid spend together, of a ``budget`` that holds for all its rounds; null for composition."""
    private = [_planned(run) for run in runs if run.private]
    if budget is None or not private:
        return compose_entries([Entry(id="", planned=run, started="") for run in runs])
    limit = Filter.before(private[0], epsilon=budget, delta=runs[0].delta)
    return Composed(epsilon=limit.spent(private), delta=limit.delta, accountant=ACCOUNTANT)


def round_fits(
    sweep: str, runs: Sequence[PlannedRun], entries: Sequence[Entry], lines: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether all ``runs`` may follow the cells of ``sweep`` within the budget that stands in the ledger.

    ``entries`` and ``lines`` are those of the ledger; without a budget there nothing has been spent, and the admission
    of the first run sets it.
    """
    budget = _find_filter(lines, sweep)
    if budget is None:
        return True
    cells = [entry.spent for entry in entries if entry.planned.sweep == sweep and entry.planned.private]
    return budget.spent([*cells, *(_planned(run) for run in runs if run.private)]) <= budget.epsilon


def best_of(run: PlannedRun, count: TrialCount) -> Composed:
    """What publishing the best of trials like ``run`` spends when their number is drawn from ``count``."""
    spent = Spent(sample_rate=run.sample_rate, noise_multiplier=run.noise_multiplier, steps=run.steps)
    return Composed(epsilon=epsilon_of_best(spent, count, delta=run.delta), delta=run.delta, accountant="rdp")


_ALIKE = ("privacy.selection", "the same sampling rate, noise, length and delta in every trial for random_stopping")


def _together(cells: Sequence[Entry], lines: Sequence[Mapping[str, Any]], sweep: str) -> tuple[Composed | None, str]:
    composed = compose_entries(cells)
    budget = _find_filter(lines, sweep)
    if budget is None or composed is None or composed.void:
        return composed, BEST_BY_COMPOSITION
    return budget.claim, BEST_BY_FILTER


def _best_of_drawn(
    cells: Sequence[Entry], composed: Composed, line: Mapping[str, Any], *, alone: bool
) -> tuple[Composed, str]:
    """The bound of random stopping if all its conditions hold, else that of composition, and why."""
    draw = Draw.from_plain({**line, "ledger": ""})
    ended = [cell for cell in cells if cell.status in ENDED]
    if composed.void:
        return composed, "composition, because the figure of a trial is void"
    if not alone:
        return composed, "composition, because trials trained on several data sets"
    if len(cells) > draw.trials:
        return composed, "composition, because trials were begun anew, with other noise, and each start counts"
    if any(cell.status == "failed" for cell in cells):
        return composed, "composition, because a trial failed, and whether one fails may depend on the data"
    if len(ended) < draw.trials:
        return composed, "composition, as long as not all of the trials that were drawn have ended"
    if len({_mechanism(cell.planned) for cell in cells}) > 1 or not all(cell.planned.private for cell in cells):
        return composed, "composition, because the trials differ in what they spend"
    return best_of(cells[0].planned, draw.count), BEST_BY_RANDOM_STOPPING


def _other_draws(lines: Sequence[Mapping[str, Any]], sweep: str) -> int:
    return len({line["sweep"] for line in lines if find_draw([line], line.get("sweep"))} - {sweep})


def _find_filter(lines: Sequence[Mapping[str, Any]], sweep: str) -> Filter | None:
    found = next((line for line in lines if line["kind"] == FILTER and line["sweep"] == sweep), None)
    return None if found is None else Filter(**{name: found[name] for name in ("epsilon", "delta", "order")})


def _admit_trial(
    terms: Terms, draw: Draw, run: PlannedRun, cells: Sequence[Entry], lines: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    assert run.sweep is not None
    line = draw.line(terms.split)
    known = find_draw(lines, run.sweep)
    if known is None and cells:
        raise RequestError("privacy.selection", "random_stopping", "composition, as the trials of this sweep began")
    if known is None:
        refuse_drawn_before(lines, draw)
    elif {key: known[key] for key in line if key != "split"} != {key: line[key] for key in line if key != "split"}:
        raise RequestError("privacy.selection", "other trials than were drawn", "those that the ledger knows")
    elif known["split"] != line["split"]:
        raise RequestError("privacy.selection", "a trial on other examples", "the same data and split in every trial")
    _require_one_mechanism(run, cells, *_ALIKE)
    if len(cells) < draw.trials:
        _keep_best_to_limit(terms.limit, best_of(run, draw.count))
    else:
        _keep_to_limit(terms.limit, run, cells)
    return line if known is None else None


def _admit_within_budget(
    terms: Terms, run: PlannedRun, cells: Sequence[Entry], budget: Filter | None
) -> dict[str, Any] | None:
    assert run.sweep is not None
    known = budget is not None
    if budget is None:
        assert terms.limit is not None
        budget = Filter.before(_planned(run), epsilon=terms.limit, delta=run.delta)
    if terms.limit != budget.epsilon:
        raise RequestError(
            "privacy.sweep_epsilon",
            terms.limit,
            f"{plainly(budget.epsilon)}, as the search began: a budget that is set after a look at results bounds"
            " nothing",
        )
    if run.delta != budget.delta:
        raise RequestError("privacy.delta", run.delta, f"{plainly(budget.delta)}, as in the first trial of the search")
    private = [cell.spent for cell in cells if cell.planned.private]
    epsilon = budget.spent([*private, _planned(run)])
    if epsilon > budget.epsilon:
        together = Composed(epsilon=epsilon, delta=budget.delta, accountant=ACCOUNTANT)
        raise _beyond(budget.epsilon, together, len(private), budget.spent(private))
    return None if known else budget.line(run.sweep)


def _require_one_mechanism(run: PlannedRun, cells: Sequence[Entry], key: str, expected: str) -> None:
    for cell in cells:
        if _mechanism(cell.planned) != _mechanism(run):
            raise RequestError(
                key, f"a trial with {_described(run)} after one with {_described(cell.planned)}", expected
            )


def _keep_to_limit(limit: float | None, run: PlannedRun, cells: Sequence[Entry]) -> None:
    if limit is None:
        return
    composed = compose_entries([*cells, Entry(id="", planned=run, started="")])
    assert composed is not None
    if composed.epsilon > limit:
        before = compose_entries(cells)
        raise _beyond(limit, composed, len(cells), None if before is None else before.epsilon)


def _beyond(limit: float, together: Composed, cells: int, before: float | None) -> RequestError:
    spent = "nothing is spent" if not before else f"{epsilon_text(before)} is spent by {cells} cells"
    return RequestError(
        "privacy.sweep_epsilon",
        f"a cell with which all compose to {_described_sum(together)}",
        f"at most {plainly(limit)}; {spent}",
    )


def _keep_best_to_limit(limit: float | None, best: Composed) -> None:
    if limit is not None and best.epsilon > limit:
        costs = f"ε={epsilon_text(best.epsilon)} (rdp, δ={delta_text(best.delta)})"
        raise RequestError(
            "privacy.sweep_epsilon", f"trials of which publishing the best costs {costs}", f"at most {plainly(limit)}"
        )


def _described_sum(together: Composed) -> str:
    if together.void:
        return f"no known bound (void: {together.void[0]})"
    return f"ε={epsilon_text(together.epsilon)} ({together.accountant}, δ={delta_text(together.delta)})"


def _planned(run: PlannedRun) -> Spent:
    return Spent(sample_rate=run.sample_rate, noise_multiplier=run.noise_multiplier, steps=run.steps)


def _mechanism(run: PlannedRun) -> tuple[float, float, int, float]:
    return run.sample_rate, run.noise_multiplier, run.steps, run.delta


def _described(run: PlannedRun) -> str:
    return f"q={run.sample_rate:g}, noise {run.noise_multiplier:g}, {run.steps} steps, δ={run.delta:g}"
