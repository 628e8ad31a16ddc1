"""Sums of privacy losses whose far tail is as exact as their middle: by tilted distributions.

The loss of many updates is a sum, whose distribution is a convolution, taken by Fourier transforms.  These err by some
1e-16 times the number of updates of the *whole* mass, wherever they err.  At a small delta that is as much as the tail
that is asked for: ``dp-accounting`` then reports an epsilon below the true one (at delta 1e-10 from 10,000 updates on).

So each mass is multiplied by exp(tilt * loss) before and divided by it after (Esscher's tilt, as in the saddle-point
accountant of Alghamdi et al. 2023).  With the tilt of the tightest Chernoff bound the tail that matters becomes the
middle, and what transforms err by is small beside delta.  It is bounded here and added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dp_accounting.pld import common
from numpy.typing import NDArray
from scipy import fft, signal
from scipy.optimize import minimize_scalar

from runner.internals.loss_distributions import directions, masses

_UNIT = 2.0**-53
"""Relative error of one rounding."""
_CUT = 1e-15
"""Share of a tilted distribution that its convolution may leave out; it counts as if it were in the tail."""
_LOG_TILTS = (math.log(1e-5), math.log(1e5))
"""Where the best tilt is looked for."""
_NOTHING = 1e-290
_FAR = 40.0
"""Losses from which on exp(-loss) is nothing beside 1 in float64."""


@dataclass(frozen=True)
class _Tilted:
    """Mass at ``(first + i) * grid`` is ``masses[i] * exp(log_scale - tilt * loss)``, and ``infinite`` at infinity."""

    masses: NDArray[np.float64]
    first: int
    log_scale: float
    infinite: float
    error: float
    """Bound on the Euclidean norm of what rounding did to ``masses``."""
    error_each: float
    """Bound on what it did to each of them besides."""
    left_out: float
    """Bound on the sum of the masses that lie outside."""


@dataclass(frozen=True)
class _Loss:
    """The loss of one update in one direction, added or removed: ``exp(logs[i])`` at ``(first + i) * grid``."""

    logs: NDArray[np.float64]
    first: int
    infinite: float


def epsilon_of_sum(losses: Sequence[tuple[Any, int]], *, grid: float, delta: float) -> float:
    """The smallest epsilon >= 0 whose hockey-stick divergence is at most ``delta`` for the sum of ``losses``.

    An upper bound where the distributions are; infinite where no epsilon will do.

    Args:
        losses: Privacy loss distributions of dp-accounting on multiples of ``grid``, and how often each.
        grid: Spacing of the losses.
        delta: In (0, 1).
    """
    removed, added = zip(*(directions(one) for one, _ in losses), strict=True)
    counts = [count for _, count in losses]
    alike = all(one is other for one, other in zip(removed, added, strict=True))
    return max(
        _one_way([(_loss(one), count) for one, count in zip(way, counts, strict=True)], grid, delta)
        for way in ((removed,) if alike else (removed, added))
    )


def rounding_of_sums(masses: NDArray[np.float64], count: int) -> float:
    """Bound on what rounding does to any sum of ``masses``, found by a Fourier transform to the power of ``count``.

    Without a tilt: the whole mass is at stake.  See ``_power``; ``masses`` stand for those of one update fewer, whose
    Euclidean norm is larger by less than the factor 2 that is left for it.
    """
    stages = (8.0 * math.log2(len(masses)) + 16.0) * _UNIT
    return 2.0 * count * stages * float(np.linalg.norm(masses)) * math.sqrt(len(masses))


def _loss(pmf: Any) -> _Loss:
    probabilities, first, infinite = masses(pmf)
    with np.errstate(divide="ignore"):
        return _Loss(np.log(probabilities), first, infinite)


def _one_way(losses: Sequence[tuple[_Loss, int]], grid: float, delta: float) -> float:
    tilt = _best_tilt(losses, grid, delta)
    found = _power(*losses[0], grid, tilt)
    for loss, count in losses[1:]:
        found = _product(found, _power(loss, count, grid, tilt))
    return _epsilon(found, grid, tilt, delta)


def _best_tilt(losses: Sequence[tuple[_Loss, int]], grid: float, delta: float) -> float:
    """About where Chernoff's bound on epsilon, log(E exp(tilt * loss) / delta) / tilt, is least."""

    def bound(log_tilt: float) -> float:
        tilt = math.exp(log_tilt)
        total = 0.0
        for loss, count in losses:
            logs = loss.logs + tilt * grid * (loss.first + np.arange(len(loss.logs)))
            largest = float(logs.max())
            total += count * (largest + math.log(float(np.exp(logs - largest).sum())))
        return (total - math.log(delta)) / tilt

    return math.exp(minimize_scalar(bound, bounds=_LOG_TILTS, method="bounded", options={"xatol": 0.1}).x)


def _power(loss: _Loss, count: int, grid: float, tilt: float) -> _Tilted:
    """The tilted distribution of the sum of ``count`` independent losses."""
    logs = loss.logs + tilt * grid * (loss.first + np.arange(len(loss.logs)))
    largest = float(logs.max())
    masses = np.exp(logs - largest)
    masses[masses < _NOTHING] = 0.0  # the library takes logarithms of ratios, which overflow
    total = float(masses.sum())
    masses /= total
    low, high = common.compute_self_convolve_bounds(masses, count, _CUT)
    length = fft.next_fast_len(max(high - low + 1, len(masses)), real=True)
    spectrum = fft.rfft(masses, length)
    powers = spectrum**count
    together = np.roll(fft.irfft(powers, length), -low)[: high - low + 1]
    # Each of the log2(n) stages of a transform adds at most 8 roundings of the sum of its inputs, 1 (Higham 2002,
    # theorem 24.2); a power multiplies an error by its exponent, and itself adds 16 roundings for each factor.
    sizes = np.abs(spectrum)
    stages = 8.0 * math.log2(length) * _UNIT
    before = math.sqrt(2.0 * float(np.sum(sizes ** (2 * (count - 1)))) / length)
    # what rounding did to logarithms and exponentials is a factor of each mass, hence of their product
    factor = count * _UNIT * (8.0 + float(np.abs(logs[np.isfinite(logs)]).max()) + abs(largest))
    return _Tilted(
        masses=np.maximum(together, 0.0),
        first=loss.first * count + low,
        log_scale=count * (largest + math.log(total)) + factor,
        infinite=-math.expm1(count * math.log1p(-loss.infinite)),
        error=count * (stages + 16.0 * _UNIT) * before,
        error_each=stages * 2.0 * float(np.sum(np.abs(powers))) / length,
        left_out=_CUT,
    )


def _product(one: _Tilted, other: _Tilted) -> _Tilted:
    """The tilted distribution of the sum of two independent losses."""
    masses = signal.fftconvolve(one.masses, other.masses)
    stages = 3 * 8.0 * math.log2(2 * len(masses)) * _UNIT
    norms = float(np.linalg.norm(one.masses)), float(np.linalg.norm(other.masses))
    # the norm of a convolution is at most that of one factor times the sum of the other, here 1
    return _Tilted(
        masses=np.maximum(masses, 0.0),
        first=one.first + other.first,
        log_scale=one.log_scale + other.log_scale,
        infinite=one.infinite + other.infinite,
        error=one.error + other.error + stages * sum(norms),
        error_each=one.error_each + other.error_each,
        left_out=one.left_out + other.left_out,
    )


def _epsilon(loss: _Tilted, grid: float, tilt: float, delta: float) -> float:
    """Where the bound on the hockey-stick divergence comes down to ``delta``; infinite where it never does."""
    room = delta - loss.infinite
    if room <= 0.0:
        return math.inf
    weights = min(len(loss.masses), 1.0 / -math.expm1(-tilt * grid))
    left_out = loss.left_out + loss.error * math.sqrt(weights) + loss.error_each * weights

    def above(epsilon: float) -> bool:
        start = max(0, math.floor(epsilon / grid) + 1 - loss.first)
        far = loss.masses[start : start + math.ceil(_FAR / (tilt * grid))]
        beyond = (loss.first + start + np.arange(len(far))) * grid - epsilon
        tail = float(np.dot(far, np.exp(-tilt * beyond) * -np.expm1(-beyond))) + math.exp(-_FAR)
        return loss.log_scale - tilt * epsilon + math.log(tail + left_out) > math.log(room)

    low, high = 0.0, max(1.0, (loss.first + len(loss.masses)) * grid)
    if not above(low):
        return 0.0
    while above(high):
        high *= 2.0
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2.0
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
