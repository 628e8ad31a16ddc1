"""Differences of means: intervals, tests of difference and of equivalence, many comparisons, and runs needed.

Everything works on whole arrays of comparisons at once, so that the simulation that checks the error rates
(``tests/report/simulation.py``) goes through the very functions that the report goes through.

Sources: Student 1908 (paired t); Welch 1947 (unpaired, unequal variances); Schuirmann 1987, J. Pharmacokinet. Biopharm.
15, 657 (two one-sided tests); Holm 1979, Scand. J. Statist. 6, 65 (many comparisons).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

POWER = 0.80
"""Probability with which the number of runs that is recommended shows an equivalence that holds."""
MOST_RUNS = 10_000
"""Beyond so many runs nobody asks for the exact number."""

Floats = NDArray[np.float64]

_SKEW_FACTOR = 1.5
"""The skewness of few differences is on average smaller than that of what they are drawn from: so much larger it is
taken to be."""
_SKEW_UNSEEN = 0.7
"""Standard errors of a skewness, sqrt(6/n), by which a tail may be longer than it looks, where a claim rests on there
being none.  With ``_SKEW_FACTOR`` chosen by simulation, such that of exponential differences 5 % of such claims are
wrong at most (``tests/report/decision_simulation.py``)."""
_SKEW_SEEN = 0.8 * _SKEW_FACTOR
"""Standard errors of the skewness of a normal sample that a plan reckons with: E|skewness| times the factor, because of
the two tails that an equivalence depends on one is the longer."""
_ROUNDING = 1e-9
"""Spread, relative to the values, that is the rounding of equal differences and no spread at all."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Differences of means, one an element; arrays of one shape."""

    mean: Floats
    """Recipe minus reference."""
    error: Floats
    """Standard error of ``mean``: 0 where every difference is the same, NaN where a spread cannot be known."""
    degrees: Floats
    """Degrees of freedom of ``error``."""
    runs: Floats
    """Runs a recipe that it was made from."""
    skew: Floats | None = None
    """Skewness of the differences; None where Student's t is trusted without a look at it."""

    @property
    def spread(self) -> Floats:
        """Standard deviation of the difference that one run of either recipe makes."""
        return self.error * np.sqrt(self.runs)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Ends of the two-sided t interval; NaN where there is no spread to make one from."""
        half = np.where(self.error > 0, self.error * _t_quantile((1 + confidence) / 2, self.degrees), np.nan)
        return self.mean - half, self.mean + half

    def lower(self, level: float) -> Floats:
        """Lower end of the one-sided interval, which lies above the truth with probability ``level`` at most.

        Hall's transformation of Student's t (1992, J. R. Statist. Soc. B 54, 221), which says too much of differences
        with a long lower tail; never a narrower interval than t.  Minus infinity where a spread cannot be known; the
        mean itself where every difference is the same.
        """
        with np.errstate(invalid="ignore"):  # no spread times an infinite quantile, of the level before the first look
            bound = self.mean - self.error * _bent(_t_quantile(1 - level, self.degrees), self._lower_tail(1.0))
        return np.where(np.isnan(bound), -np.inf, bound)

    def upper(self, level: float) -> Floats:
        """Upper end of the one-sided interval: ``lower`` of the difference the other way round, turned over."""
        return -replace(self, mean=-self.mean, skew=None if self.skew is None else -self.skew).lower(level)

    def p_different(self) -> Floats:
        """Two-sided p-value of "no difference"; 1 where nothing can be said.

        Skew is allowed for as in ``lower``, but only as far as it shows: no tail that is unseen hides a difference.

        Where all n differences are equal and not zero there is no t: the sign test takes its place, p = 2^(1-n).
        """
        signs = np.where((self.error == 0) & (self.mean != 0), 2.0 ** (1 - self.runs), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            tails = 2 * self._p_beyond(np.abs(self.mean) / self.error, np.sign(self.mean), unseen=0.0)
        return np.where(self.error > 0, np.minimum(tails, 1.0), np.minimum(signs, 1.0))

    def p_equivalent(self, margin: float) -> Floats:
        """p-value of "differs by ``margin`` or more": the larger of two one-sided t-tests; 1 without a spread.

        Skew is allowed for as in ``lower``.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            above = self._p_beyond((margin + self.mean) / self.error, 1.0)
            below = self._p_beyond((margin - self.mean) / self.error, -1.0)
        return np.where(self.error > 0, np.maximum(above, below), 1.0)

    def _p_beyond(self, t: Floats, side: Floats | float, unseen: float = _SKEW_UNSEEN) -> Floats:
        """Probability of a t that is larger; ``side`` is -1 for that of the differences the other way round."""
        tail = self._lower_tail(side, unseen)
        bent = ((1 + tail * t) ** 3 - 1) / (3 * tail) + tail / 2
        return np.asarray(special.stdtr(np.maximum(self.degrees, 1), -np.where(tail < 0, np.fmin(bent, t), t)))

    def _lower_tail(self, side: Floats | float, unseen: float = _SKEW_UNSEEN) -> Floats:
        """Skewness of the lower tail, ``unseen`` standard errors of it included, over 3 sqrt(n); 0 if not looked at."""
        if self.skew is None:
            return np.zeros(np.shape(self.mean))
        seen = _SKEW_FACTOR * np.minimum(side * self.skew, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(seen / (3 * np.sqrt(self.runs)) + _tail_of(unseen, self.runs))


def paired(
    values: ArrayLike, reference: ArrayLike, *, shared_training: float = 0.0, resolution: float = 0.0
) -> Estimate:
    """The difference of runs that share seed and everything else but the recipe; arrays [..., n], n >= 1.

    Args:
        values: of the recipe; NaN where a pair is to be left out, as in ``reference``.
        reference: of the other.
        shared_training: for folds, whose training sets overlap: examples of a test part over those of training.  The
            variance of the mean is then s^2 (1/n + this) (Nadeau and Bengio 2003, Machine Learning 52, 239); 0 for
            seeds.
        resolution: smallest step that a value can make, 1/images for a share.  The spread is taken to be at least that
            of two values that are rounded so, sqrt(1/6) of a step: equal counts of right answers are no proof of equal
            models.
    """
    one, other = np.broadcast_arrays(np.asarray(values, float), np.asarray(reference, float))
    differences = one - other
    there = ~np.isnan(differences)
    runs = there.sum(axis=-1)
    scale = np.where(there, np.maximum(np.abs(one), np.abs(other)), 0.0).max(axis=-1, initial=0.0)
    known = np.where(there, differences, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = known.sum(axis=-1) / runs
        squares = np.where(there, (known - mean[..., None]) ** 2, 0.0).sum(axis=-1)
        deviation = np.where(runs > 1, np.sqrt(squares / (runs - 1)), np.nan)
        deviation = np.where(deviation <= _ROUNDING * scale, 0.0, deviation)
        deviation = np.maximum(deviation, resolution / math.sqrt(6))
        error = deviation * np.sqrt(1 / runs + shared_training)
        thirds = np.where(there, (known - mean[..., None]) ** 3, 0.0).sum(axis=-1) / runs
        # adjusted for its bias, which is towards zero
        skew = np.sqrt(runs * (runs - 1.0)) / (runs - 2.0) * thirds / (squares / runs) ** 1.5
        skew = np.where((squares > 0) & (runs > 2), skew, 0.0)
    mean = np.where(np.abs(known).max(axis=-1, initial=0.0) <= _ROUNDING * scale, 0.0, mean)
    return Estimate(mean=mean, error=error, degrees=runs - 1.0, runs=runs.astype(float), skew=skew)


def unpaired(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """The difference of runs that share no seed: Welch's; arrays [..., n] and [..., m], n and m >= 1."""
    one, other = np.asarray(values, float), np.asarray(reference, float)
    parts = [_deviation(sample, np.abs(sample).max(axis=-1)) ** 2 / sample.shape[-1] for sample in (one, other)]
    variance = parts[0] + parts[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [part**2 / max(n - 1, 1) for part, n in zip(parts, (one.shape[-1], other.shape[-1]), strict=True)]
        degrees = np.where(variance > 0, variance**2 / (terms[0] + terms[1]), 1.0)
    # harmonic mean: the size of two equal samples whose difference has the same error
    runs = 2 / (1 / one.shape[-1] + 1 / other.shape[-1])
    mean = one.mean(axis=-1) - other.mean(axis=-1)
    return Estimate(mean=mean, error=np.sqrt(variance), degrees=degrees, runs=runs * np.ones_like(mean))


def mean_interval(values: ArrayLike, confidence: float) -> tuple[float, float]:
    """Ends of the t interval of the mean of a sample [n]; NaN where there is no spread to make one from."""
    sample = np.asarray(values, float)
    deviation = float(_deviation(sample, np.abs(sample).max()))
    if not deviation > 0:
        return math.nan, math.nan
    half = deviation / math.sqrt(len(sample)) * float(_t_quantile((1 + confidence) / 2, np.asarray(len(sample) - 1.0)))
    return float(sample.mean()) - half, float(sample.mean()) + half


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjustment of p-values [..., m] of m comparisons: compare each with the level of all of them together."""
    p = np.asarray(p_values, float)
    m = p.shape[-1]
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(m, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0)
    return np.take_along_axis(adjusted, np.argsort(order, axis=-1), axis=-1)


def power_to_show_equivalence(runs: ArrayLike, ratio: ArrayLike, level: float) -> Floats:
    """Probability that two one-sided paired tests at ``level`` show an equivalence when the true difference is zero.

    Args:
        runs: pairs, >= 2.
        ratio: margin over the standard deviation of a pair's difference.
        level: of each one-sided test.

    The tests reject when |mean| < margin - t s / sqrt(n).  Mean and s are independent, so the probability is that of
    the normal mean given s, averaged over s: Gauss-Legendre over the quantiles of its chi-square distribution.
    """
    n, margin = np.broadcast_arrays(np.asarray(runs, float)[..., None], np.asarray(ratio, float)[..., None])
    nodes, weights = np.polynomial.legendre.leggauss(48)
    s = np.sqrt(2 * special.gammaincinv((n - 1) / 2, (nodes + 1) / 2) / (n - 1))
    room = margin * np.sqrt(n) - _bent(_t_quantile(1 - level, n - 1), _tail_of(_SKEW_UNSEEN + _SKEW_SEEN, n)) * s
    inside = np.maximum(2 * special.ndtr(room) - 1, 0.0)
    return (inside * weights / 2).sum(axis=-1)


def runs_needed(spread: ArrayLike, margin: float, level: float, power: float = POWER) -> Floats:
    """Pairs with which an equivalence within ``margin`` is shown with probability ``power`` if there is no difference.

    ``spread`` is the standard deviation of a pair's difference.  NaN for a spread that is not known; infinity beyond
    ``MOST_RUNS``.
    """
    deviation = np.asarray(spread, float)
    with np.errstate(divide="ignore"):
        ratio = margin / deviation
    low, high = np.full(ratio.shape, 1.0), np.full(ratio.shape, float(MOST_RUNS))
    # power grows with the number of runs: bisection between too few (1) and enough
    enough = power_to_show_equivalence(high, ratio, level) >= power
    while (high - low).max(initial=0.0) > 1:
        middle = np.floor((low + high) / 2)
        reached = power_to_show_equivalence(np.maximum(middle, 2), ratio, level) >= power
        apart = high - low > 1
        high, low = np.where(apart & reached, middle, high), np.where(apart & ~reached, middle, low)
    return np.where(np.isnan(deviation), np.nan, np.where(enough, high, np.inf))


def rate_bounds(failures: ArrayLike, runs: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """One-sided bounds of a rate, each wrong with probability ``level`` at most; 0 and 1 without runs.

    Clopper and Pearson 1934, Biometrika 26, 404: exact, from quantiles of the beta distribution.
    """
    some, all_ = np.asarray(failures, float), np.asarray(runs, float)
    low = np.where(some > 0, special.betaincinv(np.maximum(some, 1), all_ - some + 1, level), 0.0)
    high = np.where(some < all_, special.betaincinv(some + 1, np.maximum(all_ - some, 1), 1 - level), 1.0)
    return low, high


def fisher(failures: ArrayLike, runs: ArrayLike, other_failures: ArrayLike, other_runs: ArrayLike) -> Floats:
    """p-value of "fails no more often than the other": Fisher's exact test, one-sided (hypergeometric tail)."""
    a, n, c, m = np.broadcast_arrays(*(np.asarray(x, float) for x in (failures, runs, other_failures, other_runs)))
    steps = np.arange(float(a.max(initial=0.0) + c.max(initial=0.0)) + 1)
    x, total = steps, (a + c)[..., None]
    possible = (x >= a[..., None]) & (x <= np.minimum(total, n[..., None])) & (total - x <= m[..., None])
    inside = np.where(possible, x, a[..., None])
    logs = (
        _log_choose(n[..., None], inside)
        + _log_choose(m[..., None], total - inside)
        - _log_choose((n + m)[..., None], total)
    )
    return np.asarray(np.minimum(np.where(possible, np.exp(logs), 0.0).sum(axis=-1), 1.0))


def seeds_range(spread: float, runs: float, margin: float, level: float) -> tuple[float, float]:
    """``runs_needed`` for the ends of the 90 % interval of a standard deviation that ``runs`` pairs were seen to have.

    The variance over its truth is chi-square over its degrees of freedom: after three pairs the truth may be 0.58 to
    4.4 times what was seen.
    """
    degrees = max(runs - 1, 1)
    low, high = (spread * math.sqrt(degrees / (2 * special.gammaincinv(degrees / 2, share))) for share in (0.95, 0.05))
    needed = runs_needed(np.array([low, high]), margin, level)
    return float(needed[0]), float(needed[1])


def interaction(differences: ArrayLike) -> Floats:
    """p-value of "the settings make no difference to the differences" [..., n seeds, m settings]; 1 where unknown.

    The F-test of a two-way table without repeats (Fisher 1925): settings against what is left after seeds and settings.
    """
    d = np.asarray(differences, float)
    n, m = d.shape[-2:]
    if n < 2 or m < 2:
        return np.ones(d.shape[:-2])
    mean = d.mean(axis=(-2, -1), keepdims=True)
    setting, seed = d.mean(axis=-2, keepdims=True), d.mean(axis=-1, keepdims=True)
    between = n * ((setting - mean) ** 2).sum(axis=(-2, -1)) / (m - 1)
    left = ((d - setting - seed + mean) ** 2).sum(axis=(-2, -1)) / ((m - 1) * (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = special.fdtrc(m - 1, (m - 1) * (n - 1), between / left)
    return np.where(left > 0, p, 1.0)


def _deviation(sample: Floats, scale: Floats) -> Floats:
    """Standard deviation over the last axis: exactly 0 for equal numbers, NaN for a single one."""
    if sample.shape[-1] < 2:
        return np.full(sample.shape[:-1], np.nan)
    deviation = sample.std(axis=-1, ddof=1)
    return np.where(deviation <= _ROUNDING * scale, 0.0, deviation)


def _t_quantile(probability: float, degrees: Floats) -> Floats:
    return np.asarray(special.stdtrit(np.maximum(degrees, 1.0), probability))


def _tail_of(errors: float, runs: Floats) -> Floats:
    """A skewness of so many standard errors, over 3 sqrt(n)."""
    return np.asarray(-errors * math.sqrt(6) / (3 * runs))


def _bent(t: Floats, tail: Floats) -> Floats:
    """What Hall's transformation makes of a quantile of t; ``tail`` is the skewness over 3 sqrt(n), not above 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bent = (np.cbrt(1 + 3 * tail * (t - tail / 2)) - 1) / tail
    return np.where(tail < 0, np.fmax(bent, t), t)


def _log_choose(total: Floats, chosen: Floats) -> Floats:
    return np.asarray(special.gammaln(total + 1) - special.gammaln(chosen + 1) - special.gammaln(total - chosen + 1))
