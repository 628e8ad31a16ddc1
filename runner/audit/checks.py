"""Direct checks of a private trainer against what was claimed of it, and the level that they share.

A statistical check has a p-value, which a right trainer makes at least uniform; another one holds or does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2, norm

from runner.audit.tails import two_sided

LEVEL = 1e-4
"""Probability, at most, with which a right trainer fails a statistical check of an audit."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property of the mechanism, as claimed and as found."""

    name: str
    claimed: str
    measured: str
    p_value: float
    """Of a check that is no matter of chance 1.0 or 0.0."""
    by_chance: bool = True
    """Whether a right trainer may fail, if rarely."""

    @property
    def passed(self) -> bool:
        """Whether what was found is compatible with the claim."""
        return self.p_value >= LEVEL

    @classmethod
    def exact(cls, name: str, claimed: str, measured: str, *, holds: bool) -> Check:
        """A check that a right trainer never fails."""
        return cls(name=name, claimed=claimed, measured=measured, p_value=float(holds), by_chance=False)


def at_one_level(checks: Iterable[Check]) -> tuple[Check, ...]:
    """``checks`` with the p-values of those that chance has a say in times their number (Bonferroni).

    So ``LEVEL`` bounds the probability that a right trainer fails any of them.
    """
    found = tuple(checks)
    number = sum(check.by_chance for check in found)
    return tuple(
        dataclasses.replace(check, p_value=min(1.0, number * check.p_value)) if check.by_chance else check
        for check in found
    )


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
    count = len(contributions) * steps
    spread = max_grad_norm * np.sqrt(count * (noise_multiplier**2 + rate * (1 - rate)))
    excess = float(contributions.sum()) - count * rate * max_grad_norm
    return Check(
        name="clipping: norm of a canary",
        claimed=f"<= {max_grad_norm:.4g}",
        measured=f"{contributions.sum() / (count * rate):.3g} +- {spread / (count * rate):.2g}",
        p_value=float(norm.sf(excess / spread)),
    )


def _mean_size(sizes: Sequence[int], examples: int, rate: float) -> Check:
    """The sum of all sizes is binomial."""
    return Check(
        name="batches: mean size",
        claimed=f"{examples * rate:.1f}",
        measured=f"{np.mean(sizes):.1f}",
        p_value=float(binomtest(sum(sizes), len(sizes) * examples, rate).pvalue),
    )


def _spread_of_sizes(sizes: Sequence[int], examples: int, rate: float) -> Check:
    """Squared deviations from their mean, over the binomial variance, are chi-squared with steps - 1 degrees."""
    variance, found = examples * rate * (1 - rate), float(np.var(sizes, ddof=1))
    degrees = len(sizes) - 1
    if variance == 0.0:
        p_value = 1.0 if found == 0.0 else 0.0
    else:
        p_value = float(two_sided(chi2(degrees), degrees * found / variance))
    return Check(
        name="batches: variance of the size",
        claimed=f"{variance:.1f}",
        measured=f"{found:.1f}",
        p_value=p_value,
    )
