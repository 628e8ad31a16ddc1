"""Scores of predictions: per-class figures, confusion matrix, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SQUARE = 1000
"""Classes up to which a confusion matrix is kept square: at ten thousand it would hold a hundred million counts."""

BINS = 15
"""Of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class against the rest; a share without a denominator is 0, as scikit-learn has it."""

    name: str
    precision: float
    """Of the images called so, the share that are."""
    recall: float
    """Of the images that are, the share called so."""
    f1: float
    """Harmonic mean of the two."""
    images: int
    """Images that are of the class."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """The images with a confidence in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean; None in an empty bin."""
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Predictions against the truth."""

    accuracy: float
    classes: tuple[ClassScore, ...]
    macro_f1: float
    """Mean F1 of the classes that have images."""
    confusion: NDArray[np.int64] | None
    """[K, K]: row true class, column predicted class; None above ``MOST_SQUARE`` classes."""
    pairs: NDArray[np.int64]
    """[m, 3]: true class, predicted class and number of images of each pair that there is; the same without zeros."""
    calibration_error: float
    """Expected calibration error of the most probable class."""
    calibration: tuple[CalibrationBin, ...]


def score(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float64],
    *,
    classes: Sequence[str],
) -> Scores:
    """Score n predictions.

    The calibration error is the mean gap between confidence and accuracy over 15 bins of equal width, weighted by
    their images (Guo et al. 2017, "On calibration of modern neural networks", equation 3).

    Args:
        labels: The truth, [n], n > 0.
        predicted: The most probable class, [n].
        confidence: Its probability, [n].
        classes: Names of the K classes.
    """
    count = len(classes)
    both, images = np.unique(labels.astype(np.int64) * count + predicted, return_counts=True)
    pairs = np.stack([both // count, both % count, images], axis=1)
    hits = np.bincount(labels[labels == predicted], minlength=count)
    actual, called = np.bincount(labels, minlength=count), np.bincount(predicted, minlength=count)
    precision, recall, f1 = _share(hits, called), _share(hits, actual), _share(2 * hits, actual + called)
    bins = _calibration(labels == predicted, confidence)
    gaps = [
        one.images * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    ]
    return Scores(
        accuracy=int(hits.sum()) / len(labels),
        classes=tuple(
            ClassScore(
                name=name,
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                images=int(actual[i]),
            )
            for i, name in enumerate(classes)
        ),
        macro_f1=float(f1[actual > 0].mean()),
        confusion=_square(pairs, count) if count <= MOST_SQUARE else None,
        pairs=pairs,
        calibration_error=sum(gaps) / len(labels),
        calibration=bins,
    )


def _square(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    confusion = np.zeros((count, count), dtype=np.int64)
    confusion[pairs[:, 0], pairs[:, 1]] = pairs[:, 2]
    return confusion


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return part / np.maximum(whole, 1)


def _calibration(right: NDArray[np.bool_], confidence: NDArray[np.float64]) -> tuple[CalibrationBin, ...]:
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        images = int(inside.sum())
        bins.append(
            CalibrationBin(
                low=number / BINS,
                high=(number + 1) / BINS,
                images=images,
                confidence=float(confidence[inside].mean()) if images else None,
                accuracy=float(right[inside].mean()) if images else None,
            )
        )
    return tuple(bins)
