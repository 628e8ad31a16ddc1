"""Direct checks of what the trainer released: noise, batch sizes and clipping against what was claimed of them.

Each is a statistical test whose p-value a right trainer makes uniform.  All share one level, fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 1e-4
"""Probability with which a right trainer fails a check."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property of the mechanism, as claimed and as found."""

    name: str
    claimed: str
    measured: str
    p_value: float

    @property
    def passed(self) -> bool:
        """Whether what was found is compatible with the claim."""
        return self.p_value >= LEVEL


def noise_checks(noise: NDArray[np.float64], *, deviation: float) -> list[Check]:
    """Whether ``noise`` is what was claimed of it.

    Args:
        noise: What weights without any gradient received, ``[steps, n]`` with two steps or more.
        deviation: The claimed standard deviation, sigma C / (q N).
    """
    return [_deviation(noise, deviation), _shape(noise), _steps_differ(noise)]


def batch_checks(sizes: Sequence[int], *, examples: int, rate: float) -> list[Check]:
    """Whether ``sizes`` of logical batches are those of Poisson samples of ``examples`` at ``rate``."""
    return [_mean_size(sizes, examples, rate), _spread_of_sizes(sizes, examples, rate)]


def clipping_check(
    contributions: NDArray[np.float64], *, steps: int, rate: float, max_grad_norm: float, noise_multiplier: float
) -> Check:
    """Whether the canaries that are present add no more than their clipped gradients to the sums.

    Along a unit vector of its own, a canary adds at most C in each batch that it is in; its mean over steps and
    canaries is at most q C, with a variance of at most (sigma^2 + q (1 - q)) C^2 for each.  One-sided normal test.

    Args:
        contributions: Of each present canary, summed over the steps and multiplied by q N: ``[k]``.
        steps: Number of updates T.
        rate: q.
        max_grad_norm: C.
        noise_multiplier: sigma.
    """
    from scipy.stats import norm

    count = len(contributions) * steps
    spread = max_grad_norm * np.sqrt(count * (noise_multiplier**2 + rate * (1 - rate)))
    excess = float(contributions.sum()) - count * rate * max_grad_norm
    return Check(
        name="clipping: norm of a canary",
        claimed=f"<= {max_grad_norm:.4g}",
        measured=f"{contributions.sum() / (count * rate):.3g} +- {spread / (count * rate):.2g}",
        p_value=float(norm.sf(excess / spread)),
    )


def _deviation(noise: NDArray[np.float64], deviation: float) -> Check:
    """The sum of squares, in units of the claimed variance, is chi-squared with a degree for each value."""
    from scipy.stats import chi2

    squares = float(np.sum((noise / deviation) ** 2))
    return Check(
        name="noise: standard deviation",
        claimed=f"{deviation:.4g}",
        measured=f"{np.sqrt(np.mean(noise**2)):.4g}",
        p_value=_two_sided(chi2(noise.size), squares),
    )


def _shape(noise: NDArray[np.float64]) -> Check:
    """Kolmogorov and Smirnov's distance to a normal distribution of the deviation that was measured.

    A fitted deviation makes the distance smaller and the p-value larger than uniform: a right trainer fails less often
    than ``LEVEL``, and a wrong deviation does not also count as a wrong shape.
    """
    from scipy.stats import kstest

    scale = float(np.sqrt(np.mean(noise**2)))
    if scale == 0.0:
        return Check(name="noise: normal distribution", claimed="normal", measured="no noise", p_value=0.0)
    found = kstest(noise.ravel() / scale, "norm")
    return Check(
        name="noise: normal distribution",
        claimed="normal",
        measured=f"KS distance {found.statistic:.4f}",
        p_value=float(found.pvalue),
    )


def _steps_differ(noise: NDArray[np.float64]) -> Check:
    """The largest correlation between the noise of two steps; its square is Beta(1/2, (n - 1)/2) for each pair."""
    from scipy.stats import beta

    name, claimed = "noise: another in each step", "no two alike"
    steps, count = noise.shape
    norms = np.linalg.norm(noise, axis=1, keepdims=True)
    if not norms.all():
        return Check(name=name, claimed=claimed, measured="no noise", p_value=0.0)
    correlations = np.abs(np.tril((noise / norms) @ (noise / norms).T, -1))
    largest = float(min(correlations.max(), 1.0))
    pairs = steps * (steps - 1) // 2
    return Check(
        name=name,
        claimed=claimed,
        measured=f"largest correlation {largest:.3f} of {pairs:,} pairs",
        p_value=min(1.0, pairs * float(beta(0.5, (count - 1) / 2).sf(largest**2))),
    )


def _mean_size(sizes: Sequence[int], examples: int, rate: float) -> Check:
    """The sum of all sizes is binomial."""
    from scipy.stats import binomtest

    return Check(
        name="Poisson batches: mean size",
        claimed=f"{examples * rate:.1f}",
        measured=f"{np.mean(sizes):.1f}",
        p_value=float(binomtest(sum(sizes), len(sizes) * examples, rate).pvalue),
    )


def _spread_of_sizes(sizes: Sequence[int], examples: int, rate: float) -> Check:
    """Squared deviations from their mean, over the binomial variance, are chi-squared with steps - 1 degrees."""
    from scipy.stats import chi2

    variance, found = examples * rate * (1 - rate), float(np.var(sizes, ddof=1))
    degrees = len(sizes) - 1
    if variance == 0.0:
        p_value = 1.0 if found == 0.0 else 0.0
    else:
        p_value = _two_sided(chi2(degrees), degrees * found / variance)
    return Check(
        name="Poisson batches: variance of the size",
        claimed=f"{variance:.1f}",
        measured=f"{found:.1f}",
        p_value=p_value,
    )


def _two_sided(distribution: object, value: float) -> float:
    tails = distribution.cdf(value), distribution.sf(value)  # type: ignore[attr-defined]
    return float(min(1.0, 2 * min(tails)))
