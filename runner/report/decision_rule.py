"""The rule that recommends a recipe, on arrays of many sweeps at once.

*The cheapest recipe that is shown to lie within the margin of every other still in question.*  Write q for the true
qualities, D for the margin, b for the recipe of the highest q.  A recommendation of i is wrong where q_b - q_i > D.

At each of the L planned looks every ordered pair (i, j) of the K recipes has a lower bound of q_i - q_j, from a paired
interval (Hall's transformation of t, see ``Estimate.lower``) at the one-sided level a = alpha / (l (K - 1)),
where l = ``count_looks(L)`` allows for looks that see the same again.  Recipe j is *worse* where the bound of some
q_i - q_j is above D, and drops out; i is *shown* where for every j that did not drop out as worse the bound of
q_i - q_j is above -D at this look, or was at that at which j dropped out otherwise.  Only a recipe that is shown is
recommended.

P(wrong) <= alpha.  Take a wrong i.  Either b did not drop out as worse; then the bound of q_i - q_b was above -D
although q_i - q_b < -D.  Or it did; then the bound of some q_j - q_b was above D although q_j - q_b <= 0.  For each j
but b that is one event at each look, above -D where q_j - q_b < -D, above D elsewhere, and it has probability a at
most; there are K - 1 of them at each look.  No further division is needed for the pairs (i, j) that do not contain b:
a wrong i must beat b whatever else it must beat (an intersection-union test; Berger 1982, Technometrics 24, 295).

A recipe drops out as *equivalent, dearer* only where a shown one is preferred to it, and every recipe that may yet be
preferred to that one has been shown within the margin of it.  It stays among those that a recommendation must have
been shown against, so that steps of a margin each do not add up.

Costs are compared by their logarithms, pair by pair, at the same level: *cheaper* is shown where the bound of the mean
ratio is beyond ``CLOSE``.  Costs of which neither is shown to be cheaper are tied, and of tied recipes the first is
preferred, so that the reference is displaced without a reason with probability alpha at most (K - 1 pairs, L looks).

A run that failed counts with the worst figure that any run of the look had.  One that ended far below the others of its
recipe (``find_diverged``) is a failure in all but name.  A recipe drops out where it is shown to fail more often than
another (Fisher 1935, one-sided, level a) or more often than ``failure_rate``, and is not recommended until its runs
exclude ``failure_rate``, by Clopper and Pearson's bound at level alpha for each recipe and look.

What n runs have not shown is no part of the claim.  A recipe that loses one run in twenty shows it in one of n with
probability 1 - 0.95^n, so its mean over all runs may be far from what few of them say.  A recommendation is of the runs
that neither fail nor diverge, and names Clopper and Pearson's bound of how many may.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runner.config.looks import FIRST_LOOK, count_looks
from runner.report.statistics import Estimate, Floats, fisher, paired, rate_bounds

CLOSE = 0.02
"""Share by which costs may differ and still count as equal: less is no reason to choose."""
DIVERGED = 10.0
"""A run has diverged that ended below the median of its recipe by more than so many margins, and by more than so many
median absolute deviations from it (6.7 standard deviations where runs scatter normally)."""
WORSE, EQUIVALENT, FAILURES = 1, 2, 3
"""Why a recipe dropped out; 0 for one that did not."""

Booleans = NDArray[np.bool_]
_UNBOUNDED = 1e300
"""In place of an infinite cost, such as the epsilon of a run without privacy, whose logarithm can be subtracted."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is asked of the evidence."""

    margin: float
    level: float
    """Largest probability of a wrong recommendation over all looks and recipes."""
    looks: tuple[int, ...]
    """Repeats a recipe at each."""
    failure_rate: float
    resolution: float = 0.0
    """Smallest step of a quality; see ``paired``."""
    shared_training: float = 0.0
    """See ``paired``."""

    def each(self, recipes: int) -> float:
        """The level of one bound."""
        return self.level / (count_looks(len(self.looks)) * max(recipes - 1, 1))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the repeats of one look show."""

    lower: Floats
    """[..., K, K]: lower bound of the quality of one recipe minus that of another."""
    cheaper: Booleans
    """[..., K, K]: whether one is shown to cost less than another."""
    failing: Booleans
    """[..., K]: shown to fail too often."""
    reliable: Booleans
    """[..., K]: whether ``Rule.failure_rate`` is excluded."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Where the decision stands after some looks; arrays [...] of sweeps, [..., K] of recipes."""

    open: Booleans
    """Recipes that did not drop out."""
    shown: Booleans
    """[..., K, K]: whether one recipe is shown to lie within the margin of another at the last look at both."""
    reason: NDArray[np.int8]
    dropped_at: NDArray[np.int64]
    """Repeats at the look at which a recipe dropped out; 0 for one that did not."""
    choice: NDArray[np.int64]
    """Number of the recipe that is preferred among those shown; -1 for none."""
    waiting: Booleans
    """Recipes that would be preferred to the choice, if they were shown to lie within the margin."""
    decided: Booleans
    look: NDArray[np.int64]
    """Repeats at the last look."""


def begin(shape: tuple[int, ...]) -> State:
    """Before the first look; ``shape`` is [..., K]."""
    sweeps, recipes = shape[:-1], shape[-1]
    return State(
        open=np.ones(shape, bool),
        shown=np.broadcast_to(np.eye(recipes, dtype=bool), (*shape, recipes)),
        reason=np.zeros(shape, np.int8),
        dropped_at=np.zeros(shape, np.int64),
        choice=np.full(sweeps, -1),
        waiting=np.zeros(shape, bool),
        decided=np.zeros(sweeps, bool),
        look=np.zeros(sweeps, np.int64),
    )


def weigh(quality: Floats, cost: Floats, failed: Booleans, rule: Rule) -> Evidence:
    """The evidence of some repeats.

    Args:
        quality: [..., K, n, m], more is better: n repeats, each the mean of m runs that are no repeats of each other,
            such as those of several learning rates.  NaN where a run failed or is not there.
        cost: likewise, less is better.
        failed: where a run failed.
        rule: what is asked of it.
    """
    level = rule.each(quality.shape[-3])
    with np.errstate(all="ignore"):
        worst = np.where(np.isnan(quality), np.inf, quality).min(axis=(-3, -2, -1), keepdims=True)
    repeats = np.where(failed, worst, quality).mean(axis=-1)
    difference = paired(
        repeats[..., :, None, :],
        repeats[..., None, :, :],
        shared_training=rule.shared_training,
        resolution=rule.resolution,
    )
    lower = difference.lower(level)
    # without any spread there is no t: so many equal pairs as a first look has are taken for equal recipes
    lower = np.where((difference.error == 0) & (difference.runs < FIRST_LOOK), -np.inf, lower)
    prices = log_costs(cost)
    saved = cost_difference(prices[..., None, :, :], prices[..., :, None, :]).lower(level)
    lost, runs = failed | find_diverged(quality, rule.margin), failed | ~np.isnan(quality)
    failures, runs = lost.sum(axis=(-2, -1)), runs.sum(axis=(-2, -1))
    at_least, _ = rate_bounds(failures, runs, level)
    _, at_most = rate_bounds(failures, runs, rule.level)
    failing = at_least > rule.failure_rate
    if failures.any():
        p = fisher(failures[..., :, None], runs[..., :, None], failures[..., None, :], runs[..., None, :])
        failing = failing | (p <= level).any(axis=-1)
    return Evidence(
        lower=lower, cheaper=saved > math.log1p(CLOSE), failing=failing, reliable=at_most <= rule.failure_rate
    )


def find_diverged(quality: Floats, margin: float) -> Booleans:
    """Where a run ended so far below the others of its recipe [..., n, m] that it diverged; see ``DIVERGED``."""
    below = _median(quality) - quality
    with np.errstate(invalid="ignore"):
        return below > DIVERGED * np.maximum(margin, _median(np.abs(below)))


def _median(values: Floats) -> Floats:
    """Median over the runs [..., n, m] of each setting, of those that are there; NaN where none is."""
    ordered, there = np.sort(values, axis=-2), (~np.isnan(values)).sum(axis=-2, keepdims=True)
    ends = [np.take_along_axis(ordered, np.maximum(at, 0), axis=-2) for at in ((there - 1) // 2, there // 2)]
    # of an even number the mean of the middle two; without any the index lies on a NaN
    return np.where(there > 0, (ends[0] + ends[1]) / 2, np.nan)


def log_costs(cost: Floats) -> Floats:
    """Logarithm of the mean cost of each repeat [..., K, n], of costs [..., K, n, m]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.where(np.isinf(cost), _UNBOUNDED, cost)).mean(axis=-1)


def cost_difference(values: Floats, reference: Floats) -> Estimate:
    """The difference of logarithms of costs, which what disturbs a machine makes no less even than Student's t asks."""
    return replace(paired(values, reference), skew=None)


def take_look(state: State, evidence: Evidence, rule: Rule, seeds: int) -> State:
    """The state after a further look; sweeps that are decided stay as they are."""
    recipes = state.open.shape[-1]
    both = state.open[..., :, None] & state.open[..., None, :]
    failing = state.open & evidence.failing
    worse = state.open & ~failing & (both & (evidence.lower > rule.margin)).any(axis=-2)
    open_ = state.open & ~failing & ~worse
    itself = np.eye(recipes, dtype=bool)
    shown = np.where(both & ~itself, evidence.lower > -rule.margin, state.shown)
    rivals = open_ | (state.reason == EQUIVALENT)
    eligible = open_ & evidence.reliable & (~rivals[..., None, :] | shown).all(axis=-1)
    order = np.arange(recipes)
    # the first of those that no other eligible one is shown to undercut
    undercut = (eligible[..., :, None] & evidence.cheaper).any(axis=-2)
    best = np.where(eligible & ~undercut, order, recipes).min(axis=-1)
    best = np.where(best == recipes, np.where(eligible, order, recipes).min(axis=-1), best)
    found = best < recipes
    at = np.where(found, best, 0)[..., None]
    cheaper = np.take_along_axis(evidence.cheaper, at[..., None], axis=-1)[..., 0]
    dearer = np.take_along_axis(evidence.cheaper, at[..., None], axis=-2)[..., 0, :]
    waited_for = open_ & ~eligible & (cheaper | (~dearer & (order < at))) & (order != at)
    decided = found & ((seeds >= rule.looks[-1]) | ~waited_for.any(axis=-1))
    needed = (waited_for[..., :, None] & ~shown).any(axis=-2)
    equivalent = (found & ~decided)[..., None] & open_ & ~waited_for & ~needed & (order != at)
    reason = np.select([failing, worse, equivalent], [FAILURES, WORSE, EQUIVALENT], state.reason).astype(np.int8)
    new = State(
        open=open_ & ~equivalent,
        shown=shown,
        reason=reason,
        dropped_at=np.where(reason != state.reason, seeds, state.dropped_at),
        choice=np.where(found, best, -1),
        waiting=waited_for & found[..., None],
        decided=decided,
        look=np.full_like(state.look, seeds),
    )
    return _kept(state, new)


def _kept(old: State, new: State) -> State:
    """``new``, but ``old`` where that is decided."""
    kept = old.decided
    return replace(
        new,
        open=np.where(kept[..., None], old.open, new.open),
        shown=np.where(kept[..., None, None], old.shown, new.shown),
        reason=np.where(kept[..., None], old.reason, new.reason),
        dropped_at=np.where(kept[..., None], old.dropped_at, new.dropped_at),
        choice=np.where(kept, old.choice, new.choice),
        waiting=np.where(kept[..., None], old.waiting, new.waiting),
        decided=kept | new.decided,
        look=np.where(kept, old.look, new.look),
    )
