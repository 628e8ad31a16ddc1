"""Which recipe a sweep recommends: the rule of ``decision_rule`` applied to its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from runner.config.looks import count_looks
from runner.report.cells import CellResult
from runner.report.decision_rule import EQUIVALENT, FAILURES, WORSE, Rule, State, begin, log_costs, take_look, weigh
from runner.report.question import Question
from runner.report.recipes import Grouping, epsilon, joules, money, peak_mebibytes, seconds
from runner.report.repeats import Repeats, read_repeats
from runner.report.statistics import Floats

COSTS: dict[str, Callable[[CellResult], float | None]] = {
    "seconds": seconds,
    "memory": peak_mebibytes,
    "epsilon": lambda cell: float("inf") if (spent := epsilon(cell)) is None else spent,
    "money": money,
    "joules": joules,
}
"""What ``comparison.decision`` may minimise, of a run."""

Reason = Literal["worse", "equivalent, dearer", "failures"]
_REASONS: dict[int, Reason] = {WORSE: "worse", EQUIVALENT: "equivalent, dearer", FAILURES: "failures"}


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A recipe that is out of the question."""

    label: str
    reason: Reason
    look: int
    """Repeats a recipe at the look that showed it."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where a sweep stands; a pure function of its cells' results."""

    leader: str | None
    """Label of the recipe that is recommended, or that leads so far; None where no run has a result."""
    decided: bool
    """The recommendation stands: further repeats are not looked at."""
    in_question: tuple[str, ...]
    """Labels of the recipes that need further seeds to settle it, the leader among them; empty once decided, and where
    every recipe dropped out."""
    dropped: tuple[Dropped, ...]
    look: int
    """Repeats a recipe at the last planned look that was taken; 0 for none."""
    next_look: int | None
    """Those of the next; None when decided, past the last, or without a recipe left."""
    waiting: tuple[str, ...]
    """Labels of the recipes that would be preferred, being cheaper, were they shown to lie within the margin; where the
    recommendation stands all the same, the last look left them open."""
    looks: tuple[int, ...]
    """Those of every planned look."""
    planned: bool
    """Whether looks were planned; else there is one, at a number of repeats that was fixed beforehand."""

    @property
    def level_share(self) -> float:
        """Share of the level that a claim may use at each look, and nothing before the first."""
        return 0.0 if self.planned and self.look == 0 else 1 / count_looks(len(self.looks))


def decide_sweep(grouping: Grouping, question: Question, *, not_ended: int = 0) -> Decision:
    """Apply the rule to the results that are there.

    ``not_ended``: cells of the sweep that are still to end or to begin.  The one look at a grid that was fixed
    beforehand is at the whole of it, and a recommendation from part of it stands so far, as does one whose cost no run
    has measured.

    With ``comparison.until=decided`` a look is taken once every recipe in question has ended its first n seeds, in the
    order of their numbers, and only these are used, so that a sweep that was killed and resumed looks at the same data.
    Otherwise there is one look, at all pairs.  Folds and splits are no repeats that can be added: one look, too.
    """
    repeats = read_repeats(grouping)
    planned = bool(question.looks) and not repeats.are_splits
    looks = question.looks if planned else (len(repeats.names),)
    rule = rule_of(question, repeats, looks)
    quality, cost = qualities(repeats, question), repeats.array(COSTS[question.decision])
    failed, ended = repeats.failed(question.metric.name), repeats.ended()
    state = begin((len(grouping.recipes),))
    for seeds in looks:
        if state.decided or not state.open.any():
            break
        if planned and not (ended.shape[1] >= seeds and ended[state.open, :seeds].all()):
            break
        if not planned and not _measured(quality):
            break
        evidence = weigh(quality[:, :seeds], cost[:, :seeds], failed[:, :seeds], rule)
        state = take_look(state, evidence, rule, seeds)
    if (not planned and not_ended) or np.isnan(cost).all():
        state = replace(state, decided=np.zeros_like(state.decided))
    return _decision(grouping, state, looks, quality, cost, question.margin, planned)


def rule_of(question: Question, repeats: Repeats, looks: Sequence[int]) -> Rule:
    """The rule of ``question`` for these repeats."""
    return Rule(
        margin=question.margin,
        level=question.level,
        looks=tuple(looks),
        failure_rate=question.failure_rate,
        resolution=question.resolution,
        shared_training=repeats.shared_training,
    )


def qualities(repeats: Repeats, question: Question) -> Floats:
    """The metric [K, n, m] in the unit of the margin, more being better; NaN where there is none."""
    metric = question.metric
    sign = metric.scale if metric.is_accuracy else -metric.scale
    values = sign * repeats.array(lambda cell: cell.metric(metric.name))
    return np.where(np.isfinite(values), values, np.nan)


def _measured(quality: Floats) -> bool:
    return bool((~np.isnan(quality)).any(axis=(1, 2)).sum() > 1)


def _decision(
    grouping: Grouping,
    state: State,
    looks: Sequence[int],
    quality: Floats,
    cost: Floats,
    margin: float,
    planned: bool,
) -> Decision:
    labels = [recipe.label for recipe in grouping.recipes]
    choice = int(state.choice)
    decided, look = bool(state.decided), int(state.look)
    leader = labels[choice] if choice >= 0 else _leads(labels, state, quality, cost, margin)
    open_ = tuple(label for label, still in zip(labels, state.open, strict=True) if still)
    ahead = next((seeds for seeds in looks if seeds > look), None)
    return Decision(
        leader=leader,
        decided=decided,
        in_question=() if decided else open_,
        dropped=tuple(
            Dropped(label=label, reason=_REASONS[int(why)], look=int(at))
            for label, why, at in zip(labels, state.reason, state.dropped_at, strict=True)
            if why
        ),
        look=look,
        next_look=None if decided or not open_ else ahead,
        waiting=tuple(label for label, waits in zip(labels, state.waiting, strict=True) if waits),
        looks=tuple(looks),
        planned=planned,
    )


def _leads(labels: Sequence[str], state: State, quality: Floats, cost: Floats, margin: float) -> str | None:
    """The cheapest, by the means over common repeats, of those whose mean lies within the margin of the best."""
    repeats = quality.mean(axis=-1)
    measured = ~np.isnan(repeats).all(axis=-1) & (state.open if state.open.any() else True)
    if not measured.any():
        return None
    numbers = np.flatnonzero(measured)
    common = ~np.isnan(repeats[numbers]).any(axis=0)
    shared = repeats[numbers][:, common] if common.any() else repeats[numbers]
    means = np.nanmean(shared, axis=1)
    prices = log_costs(cost)[numbers]
    prices = prices[:, common] if common.any() else prices
    known = ~np.isnan(prices)
    # a run whose cost was not recorded, as after a kill, counts for nothing; a recipe without any comes last
    spent = np.where(known.any(axis=1), np.nansum(prices, axis=1) / np.maximum(known.sum(axis=1), 1), np.inf)
    near = means >= means.max() - margin
    spent = np.where(near, spent, np.nan)
    return labels[int(numbers[int(np.nanargmin(spent))])]
