"""Stratified selections of examples that depend on the labels and a seed alone.

Orders come from the raw output of PCG64, which numpy keeps stable, and not from ``Generator`` methods, which it does
not (NEP 19): a split must be the same after an update of numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runner.config.words.pluralize import pluralize
from runner.errors import RequestError

Positions = NDArray[np.int64]

# One stream for each kind of selection: a validation split must not follow the order by which the test was drawn.
TEST, VAL, FOLD, LIMIT = range(4)


def hold_out(
    labels: NDArray[np.int64], fraction: float, *, seed: int, purpose: int, key: str, classes: Sequence[str]
) -> tuple[Positions, Positions]:
    """Split positions 0..n-1 into (kept, held out), ``fraction`` of every class being held out.

    The held-out total is ``round(fraction * n)`` where every class can give its share; each class gives at least one
    example and keeps at least one.

    Args:
        labels: Class of each example, ``[n]``.
        fraction: Share to hold out, in (0, 1).
        seed: Seed of the selection.
        purpose: Stream of random numbers, one of this module's constants.
        key: Configuration key to name in errors.
        classes: Names of the classes, for errors.

    Raises:
        RequestError: A class has fewer than two examples.
    """
    counts = np.bincount(labels, minlength=len(classes))
    _refuse_small_classes(counts, 2, key=key, got=fraction, classes=classes)
    share = np.clip(_apportion(counts, round(fraction * len(labels))), 1, counts - 1)
    rank = _rank_in_class(labels, seed=seed, purpose=purpose)
    held = rank < share[labels]
    return np.flatnonzero(~held), np.flatnonzero(held)


def hold_out_fold(
    labels: NDArray[np.int64], fold: int, folds: int, *, seed: int, classes: Sequence[str]
) -> tuple[Positions, Positions]:
    """Split positions 0..n-1 into (the other folds, fold number ``fold``).

    The folds part the examples, differ by at most one example in size, and so does each class within them.

    Raises:
        RequestError: ``fold`` is not one of the folds, or a class has fewer examples than there are folds.
    """
    if not 0 <= fold < folds:
        raise RequestError("data.fold", fold, f"a number from 0 to {folds - 1} (data.folds={folds})")
    counts = np.bincount(labels, minlength=len(classes))
    _refuse_small_classes(counts, folds, key="data.folds", got=folds, classes=classes)
    # Assigned round-robin, each class going on where the one before it stopped, so that the sizes stay level.
    starts = np.cumsum(counts) - counts
    dealt = (_rank_in_class(labels, seed=seed, purpose=FOLD) + starts[labels]) % folds
    return np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)


def thin(labels: NDArray[np.int64], limit: int, *, seed: int, classes: Sequence[str]) -> Positions:
    """Positions of at most ``limit`` examples, each class keeping its share; in the original order.

    Raises:
        RequestError: ``limit`` is too small for one example of each class.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    counts = np.bincount(labels, minlength=len(classes))
    present = int(np.count_nonzero(counts))
    if limit < present:
        raise RequestError("data.limit", limit, f"at least {present}, one example for each class")
    share = _apportion(counts, limit)
    # A rare class must not vanish from a small subset; the largest give up what it gets.
    share[(share == 0) & (counts > 0)] = 1
    while share.sum() > limit:
        share[np.argmax(share)] -= 1
    return np.flatnonzero(_rank_in_class(labels, seed=seed, purpose=LIMIT) < share[labels])


def _apportion(counts: Positions, total: int) -> Positions:
    """Whole numbers proportional to ``counts`` that add up to ``total``, by largest remainders."""
    if total == 0:
        return np.zeros_like(counts)
    exact = counts * (total / counts.sum())
    share = np.floor(exact).astype(np.int64)
    largest = np.argsort(share - exact, kind="stable")[: total - share.sum()]
    share[largest] += 1
    return share


def _rank_in_class(labels: NDArray[np.int64], *, seed: int, purpose: int) -> Positions:
    """Place of each example in a random order of its own class, ``[n]`` from 0."""
    raw = np.random.PCG64(np.random.SeedSequence([seed, purpose])).random_raw(len(labels))
    order = np.lexsort((raw, labels))
    counts = np.bincount(labels)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _refuse_small_classes(counts: Positions, least: int, *, key: str, got: object, classes: Sequence[str]) -> None:
    smallest = int(np.argmin(counts))
    if counts[smallest] < least:
        raise RequestError(
            key,
            f"{got} with {pluralize(int(counts[smallest]), 'example')} of class {classes[smallest]}",
            f"at least {least} examples of every class to split",
        )
