"""Checks of the released noise (the release minus the clipped sum) against the claimed noise, by parameter.

Everything here is in units of sigma C: right noise is standard normal, independent over numbers, tensors and steps.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.stats import beta, chi2, kstest

from runner.audit.checks import Check
from runner.audit.tails import products, two_sided

_PREFIX = 4096
"""Numbers of two tensors, from their beginnings, that are held against each other in each step."""
_SHAPED = 1 << 17
"""Numbers of a tensor, from the first step on, whose distribution is looked at."""
_WINDOW = 1 << 18
"""Numbers of a step, from the first parameter's beginning, that are held against each other."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise of T steps in L tensors, of large tensors the first numbers only."""

    names: tuple[str, ...]
    """[L]"""
    counts: NDArray[np.int64]
    """Numbers in each tensor, [L]."""
    squares: NDArray[np.float64]
    """Sums of the squares of all numbers, [T, L]."""
    totals: NDArray[np.float64]
    """Sums of all numbers, [T, L]."""
    kept: tuple[NDArray[np.float32], ...]
    """L of [T, k]: the first k numbers of each tensor."""

    @classmethod
    def of(cls, tensors: Sequence[NDArray[np.float64]]) -> Noise:
        """All of ``tensors``, each [T, n]."""
        return cls(
            names=tuple(str(number) for number in range(len(tensors))),
            counts=np.array([tensor.shape[1] for tensor in tensors]),
            squares=np.stack([(tensor**2).sum(1) for tensor in tensors], 1),
            totals=np.stack([tensor.sum(1) for tensor in tensors], 1),
            kept=tuple(tensor.astype(np.float32) for tensor in tensors),
        )

    @classmethod
    def joined(cls, runs: Sequence[Noise]) -> Noise:
        """That of several runs of one recipe, one after another."""
        return dataclasses.replace(
            runs[0],
            squares=np.concatenate([run.squares for run in runs]),
            totals=np.concatenate([run.totals for run in runs]),
            kept=tuple(np.concatenate(kept) for kept in zip(*(run.kept for run in runs), strict=True)),
        )

    @property
    def steps(self) -> int:
        """T."""
        return len(self.squares)

    @functools.cached_property
    def grams(self) -> list[NDArray[np.float64]]:
        """Of each tensor the products of the steps, [T, T]; torch's threads are as many as the run was given."""
        tensors = [torch.from_numpy(kept) for kept in self.kept]
        return [(tensor @ tensor.T).double().numpy() for tensor in tensors]

    @functools.cached_property
    def gram(self) -> NDArray[np.float64]:
        """Of all tensors together."""
        return np.sum(self.grams, axis=0)


def noise_checks(noise: Noise) -> list[Check]:
    """Whether ``noise``, of two steps or more, is what was claimed of it."""
    if not noise.squares.all():
        found = f"none in {noise.names[np.argwhere(noise.squares == 0)[0, 1]]}"
        return [Check(name="noise: deviation of each tensor", claimed="1 sigma C", measured=found, p_value=0.0)]
    return [
        _deviation(noise),
        _common_part(noise),
        _shape(noise),
        _steps_differ(noise),
        _steps_unrelated(noise),
        _tensors_unrelated(noise),
        _unrelated_in_a_step(noise),
    ]


def _deviation(noise: Noise) -> Check:
    """Sums of squares are chi-squared with a degree for each number: of each tensor, and of each in each step."""
    over_steps, degrees = noise.squares.sum(0), noise.counts * noise.steps
    families = two_sided(chi2(degrees), over_steps), two_sided(chi2(noise.counts), noise.squares)
    found = np.sqrt(over_steps / degrees)
    return Check(
        name="noise: deviation of each tensor",
        claimed="1 sigma C",
        measured=f"{found.min():.3f} to {found.max():.3f}",
        p_value=_smallest(*families),
    )


def _common_part(noise: Noise) -> Check:
    """The mean of a tensor times the root of its size is normal, so that its squares over the steps are chi-squared."""
    common = ((noise.totals / np.sqrt(noise.counts)) ** 2).sum(0)
    return Check(
        name="noise: no part in common",
        claimed="1 of each",
        measured=f"{common.min() / noise.steps:.2f} to {common.max() / noise.steps:.2f}",
        p_value=_smallest(two_sided(chi2(noise.steps), common)),
    )


def _shape(noise: Noise) -> Check:
    """Kolmogorov and Smirnov's distance of each tensor to a normal distribution of the deviation that was measured.

    A fitted deviation makes the distance smaller and the p-value larger than uniform: a right trainer fails less often
    than it may, and a wrong deviation does not also count as a wrong shape.
    """
    found = []
    for kept in noise.kept:
        values = kept.ravel()[:_SHAPED].astype(np.float64)
        values /= np.sqrt(np.mean(values**2))
        found.append(kstest(values, "norm", method="asymp" if values.size > 10_000 else "auto"))
    return Check(
        name="noise: normal in each tensor",
        claimed="normal",
        measured=f"KS distance {max(each.statistic for each in found):.4f}",
        p_value=_smallest(np.array([each.pvalue for each in found])),
    )


def _steps_differ(noise: Noise) -> Check:
    """The largest correlation of two steps, in all and in each tensor; its square is Beta(1/2, (n - 1)/2)."""
    families, largest = [], 0.0
    widths = [kept.shape[1] for kept in noise.kept]
    for gram, count in [*zip(noise.grams, widths, strict=True), (noise.gram, sum(widths))]:
        if count < 2:
            continue
        lengths = np.sqrt(np.diag(gram))
        found = np.abs(gram / np.outer(lengths, lengths))[np.tril_indices(noise.steps, -1)]
        largest = float(min(1.0, found.max()))
        families.append(_smallest(beta(0.5, (count - 1) / 2).sf(np.minimum(found, 1.0) ** 2)))
    return Check(
        name="noise: another in each step",
        claimed="unrelated",
        measured=f"correlation <= {largest:.3f}",
        p_value=_smallest(np.array(families)),
    )


def _steps_unrelated(noise: Noise) -> Check:
    """Products of each step with the one a fixed number of steps later, added up."""
    count = sum(kept.shape[1] for kept in noise.kept)
    lags = np.arange(1, noise.steps)
    sums = np.array([np.trace(noise.gram, offset=lag) for lag in lags])
    counts = count * (noise.steps - lags)
    return Check(
        name="noise: no echo in later steps",
        claimed="unrelated",
        measured=f"correlation <= {np.abs(sums / counts).max():.4f}",
        p_value=_smallest(products(sums, counts)),
    )


def _tensors_unrelated(noise: Noise) -> Check:
    """Two tensors, number by number from their beginnings."""
    name, claimed = "noise: another in each tensor", "unrelated"
    few = max(16, min(_PREFIX, (1 << 26) // (noise.steps * len(noise.kept) ** 2)))
    heads = [kept[:, :few] for kept in noise.kept]
    sums, counts = [], []
    for one, other in combinations(heads, 2):
        width = min(one.shape[1], other.shape[1])
        sums.append(float(np.einsum("tk,tk->", one[:, :width], other[:, :width], dtype=np.float64)))
        counts.append(width * noise.steps)
    if not sums:
        return Check(name=name, claimed=claimed, measured="a single tensor", p_value=1.0)
    worst = max(abs(total) / count for total, count in zip(sums, counts, strict=True))
    return Check(
        name=name,
        claimed=claimed,
        measured=f"correlation <= {worst:.3f}",
        p_value=_smallest(products(sums, counts)),
    )


def _unrelated_in_a_step(noise: Noise) -> Check:
    """Each number with the one a fixed number of places later, over all tensors in a row: a stream that repeats."""
    total: NDArray[np.float64] | None = None
    for step in range(noise.steps):
        row = np.concatenate([kept[step] for kept in noise.kept])[:_WINDOW]
        length = next_fast_len(2 * len(row), real=True)
        spectrum = rfft(row, length)
        echoes = irfft(spectrum.real**2 + spectrum.imag**2, length)[1 : len(row)].astype(np.float64)
        total = echoes if total is None else total + echoes
    assert total is not None
    counts = noise.steps * np.arange(len(total), 0, -1)
    strength = np.abs(total) / np.sqrt(counts)
    worst = np.argsort(strength)[-64:]
    found = products(total[worst], counts[worst])
    return Check(
        name="noise: no echo within a step",
        claimed="unrelated",
        measured=f"correlation <= {np.abs(total[worst] / counts[worst]).max():.4f}",
        p_value=min(1.0, len(total) * float(found.min())),
    )


def _smallest(*families: NDArray[np.float64]) -> float:
    """The smallest p-value of all, corrected for their number (Bonferroni)."""
    return float(min(1.0, min(len(families) * family.size * family.min() for family in families)))
