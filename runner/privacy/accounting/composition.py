"""Composition of several private runs on the same data, each of Poisson-sampled Gaussian steps.

The figure bounds what somebody learns who sees every one of them.  It is for mechanisms that were settled without
looking at the results of the other runs, as in a grid.  Where each next noise multiplier or length is picked by the
results so far, only a Renyi budget that was fixed beforehand is known to hold (Feldman and Zrnic 2021): ask for
``rdp``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runner.privacy.accounting import accountants

MOST_UNLIKE = 12
"""Different (sampling rate, noise multiplier) pairs up to which loss distributions are convolved: each costs about as
much as one run's own figure.  Beyond, Renyi divergences, whose sum costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The steps of one run."""

    sample_rate: float
    noise_multiplier: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Composed:
    """An upper bound on what all runs spend together."""

    epsilon: float
    delta: float
    accountant: str
    """``pld`` or ``rdp``: how the bound was computed."""
    void: tuple[str, ...] = ()
    """Runs among them whose own epsilon does not hold, each with the reason: then no bound is known, and ``epsilon`` is
    infinite."""


def compose(runs: Iterable[Spent], *, delta: float, accountant: str = "pld") -> Composed:
    """An upper bound on the epsilon at ``delta`` of publishing all of ``runs``; 0 for none, infinite without noise.

    With ``pld`` the answer is by privacy loss distributions where they can be had: for up to ``MOST_UNLIKE`` different
    mechanisms and a delta that their transforms resolve; otherwise, and with ``rdp``, by Renyi divergences.
    """
    steps: Counter[tuple[float, float]] = Counter()
    for run in runs:
        steps[run.sample_rate, run.noise_multiplier] += run.steps
    steps = +steps
    by_pld = accountant != "rdp" and len(steps) <= MOST_UNLIKE and delta >= accountants.SMALLEST_DELTA
    name = "pld" if by_pld else "rdp"
    if not steps:
        return Composed(epsilon=0.0, delta=delta, accountant=name)
    if any(noise == 0.0 for _, noise in steps):
        return Composed(epsilon=math.inf, delta=delta, accountant=name)
    mechanisms = [(rate, noise, count) for (rate, noise), count in sorted(steps.items())]
    epsilon = (accountants.pld_of_all if by_pld else accountants.rdp_of_all)(mechanisms, delta)
    return Composed(epsilon=epsilon, delta=delta, accountant=name)
