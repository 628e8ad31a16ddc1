"""Ratios of paired times, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A median of paired ratios with its 95 % interval."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired_ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The median of ``times[i] / reference[i]``, with a percentile bootstrap interval (Efron 1979) over the pairs.

    Neighbours in time are paired, because a shared machine's speed drifts; the median bears single disturbed blocks.
    """
    ratios = np.asarray(times, dtype=float) / np.asarray(reference, dtype=float)
    return _with_interval(ratios)


def paired_difference(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The same for ``times[i] - reference[i]``."""
    return _with_interval(np.asarray(times, dtype=float) - np.asarray(reference, dtype=float))


def _with_interval(values: np.ndarray) -> Ratio:
    drawn = np.random.default_rng(0).choice(values, size=(_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Ratio(median=float(np.median(values)), low=float(low), high=float(high), pairs=len(values))
