"""Checks that batches are Poisson samples: each example enters each step by a coin of its own.

The sampler is asked for batches enough, those that were trained on first.  Given how large two batches are, the number
of examples that both hold is hypergeometric, whatever else is known; and given how often two examples were drawn, so is
the number of batches that hold both.  That is what most checks rest on, so they hold for every N, q and T.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom, chi2

from runner.audit.checks import Check, batch_checks
from runner.audit.tails import counted, two_sided

_MOST = 2048
"""Examples, or batches, of which every pair is compared."""


def inclusion_checks(drawn: NDArray[np.bool_], *, rate: float) -> list[Check]:
    """Whether the batches ``drawn`` [T, N] are Poisson samples at ``rate``."""
    return [
        *batch_checks(drawn.sum(1).tolist(), examples=drawn.shape[1], rate=rate),
        _rates(drawn, rate),
        _overlaps(drawn, name="batches: unrelated over steps"),
        _overlaps(drawn[:, :_MOST].T, name="batches: unrelated examples"),
    ]


def _rates(drawn: NDArray[np.bool_], rate: float) -> Check:
    """How often each example was drawn: each binomial, and all of them as much apart as binomial counts are.

    Squared deviations over the binomial variance have a mean of N; their variance is N (2 + (1 - 6 q (1 - q)) /
    (T q (1 - q))), which a scaled chi-squared distribution is given too (Satterthwaite 1946).
    """
    name = "batches: rate of each example"
    steps, examples = drawn.shape
    times = drawn.sum(0)
    variance = steps * rate * (1 - rate)
    measured = f"{times.min() / steps:.3f} to {times.max() / steps:.3f}"
    if variance == 0.0:
        alone = 1.0 if (times == steps).all() else 0.0
        return Check(name=name, claimed=f"{rate:.4f}", measured=measured, p_value=alone)
    spread = float(((times - steps * rate) ** 2).sum() / variance)
    excess = (2 + (1 - 6 * rate * (1 - rate)) / variance) / 2
    together = float(two_sided(chi2(examples / excess), spread / excess))
    tails = np.minimum(binom(steps, rate).cdf(times), binom(steps, rate).sf(times - 1))
    return Check(
        name=name,
        claimed=f"{rate:.4f}",
        measured=measured,
        p_value=min(1.0, 2 * together, 2 * 2 * examples * float(tails.min())),
    )


def _overlaps(sets: NDArray[np.bool_], *, name: str) -> Check:
    """Whether ``sets`` [n, m] of m things share what sets of their sizes share by chance: each pair, and by distance.

    Pairs at a fixed distance are added up: overlaps with one set are independent given its size.
    """
    sets = sets[:_MOST]
    count, things = sets.shape
    numbers = torch.from_numpy(sets.astype(np.float32))
    shared = (numbers @ numbers.T).double().numpy()
    sizes = sets.sum(1).astype(np.float64)
    first, second = np.tril_indices(count, -1)
    pairs = counted(shared[first, second], sizes[first], sizes[second] / things)
    distances = np.arange(1, count // 2 + 1)
    sums = np.array([np.trace(shared, offset=distance) for distance in distances])
    draws = np.array([sizes[:-distance].sum() for distance in distances])
    expected = np.array([sizes[:-distance] @ sizes[distance:] / things for distance in distances])
    share = np.divide(expected, draws, out=np.zeros_like(expected), where=draws > 0)
    apart = counted(sums, draws, share)
    ratios = np.divide(sums, expected, out=np.ones_like(sums), where=expected > 0)
    return Check(
        name=name,
        claimed="1 by chance",
        measured=f"{ratios.min():.3f} to {ratios.max():.3f} shared",
        p_value=min(1.0, 2 * pairs.size * float(pairs.min()), 2 * apart.size * float(apart.min())),
    )
