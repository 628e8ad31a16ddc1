"""Upper bounds on tail probabilities that hold for every sample size, however far out: none is an approximation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

_SLOPES = np.concatenate([np.geomspace(1e-6, 0.45, 400), 0.5 - np.geomspace(0.05, 1e-9, 100)])


def counted(found: ArrayLike, drawn: ArrayLike, share: ArrayLike) -> NDArray[np.float64]:
    """Bounds on the probability, two-sided, of a count this far from its mean.

    For sums of binomial and hypergeometric counts, ``drawn`` draws in all of which ``share`` hit on average:
    2 exp(-n KL(found / n, share)) (Hoeffding 1963, theorems 1 and 4).
    """
    count, draws, mean = (np.asarray(value, dtype=np.float64) for value in (found, drawn, share))
    part = np.divide(count, draws, out=np.zeros_like(count), where=draws > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = xlogy(part, part / mean) + xlogy(1 - part, (1 - part) / (1 - mean))
    distance = np.where(np.isnan(distance), 0.0, distance)
    return np.minimum(1.0, 2 * np.exp(-draws * np.maximum(distance, 0.0)))


def products(total: ArrayLike, count: ArrayLike) -> NDArray[np.float64]:
    """Bounds on the probability, two-sided, of a sum this far from 0 of ``count`` products of two standard normals.

    A normal number may stand in two products, as in z_1 z_2 + z_2 z_3 + ...: the logarithm of the generating function
    at s is at most -n/2 log((1 + sqrt(1 - 4 s^2)) / 2), for s below 1/2 (the determinant of the tridiagonal matrix of a
    chain), and Chernoff's bound follows.
    """
    sums, counts = np.broadcast_arrays(np.abs(np.asarray(total, np.float64)), np.asarray(count, np.float64))
    generating = -0.5 * np.log((1 + np.sqrt(1 - 4 * _SLOPES**2)) / 2)
    exponents = np.min(counts[..., None] * generating - sums[..., None] * _SLOPES, axis=-1)
    return np.minimum(1.0, 2 * np.exp(np.minimum(exponents, 0.0)))


def two_sided(distribution: object, value: ArrayLike) -> NDArray[np.float64]:
    """The p-value of ``value`` under a continuous distribution of scipy, both tails counted."""
    tails = np.minimum(distribution.cdf(value), distribution.sf(value))  # type: ignore[attr-defined]
    return np.asarray(np.minimum(1.0, 2 * tails), dtype=np.float64)
