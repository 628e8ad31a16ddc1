"""What the answers to single images, which runs keep, show of each recipe against the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runner.errors import RunError
from runner.records.predictions import read_predictions
from runner.report.cells import CellResult
from runner.report.decision import Decision
from runner.report.image_statistics import ImageDifference, mcnemar, over_images
from runner.report.question import Metric, Question
from runner.report.recipes import Grouping
from runner.report.repeats import Repeats, read_repeats
from runner.report.statistics import Floats

_ROUNDING = 1e-6
"""By which an accuracy may differ from that of the answers that were kept."""


@dataclass(frozen=True, kw_only=True)
class OverImages:
    """A recipe against the reference, image by image; figures in points, recipe minus reference."""

    images: int
    runs: int
    """Pairs of runs."""
    difference: ImageDifference
    alone: tuple[int, int] | None
    """Of a single pair: images that the recipe's run alone answered rightly, and the reference's alone."""
    p_same: float
    """Of a single pair, McNemar's: that both are right equally often on new images; else NaN."""


@dataclass(frozen=True, kw_only=True)
class ImageEvidence:
    """What is known over images."""

    found: Mapping[str, OverImages]
    """By the label of the recipe that is held against the reference."""
    missing: str | None = None
    """Why something is not known; None where everything is, and where nobody would ask."""


class _NotKnown(Exception):
    """Says why."""


def read_image_evidence(grouping: Grouping, question: Question, decision: Decision | None) -> ImageEvidence:
    """Hold every recipe against the first, over the pairs of runs that the comparison uses."""
    if decision is None or not question.metric.is_accuracy:
        return ImageEvidence(found={})
    repeats = read_repeats(grouping)
    if repeats.are_splits:
        return ImageEvidence(
            found={}, missing="each split has other images, and the intervals are for new data already"
        )
    most = decision.look if decision.planned and decision.look else len(repeats.names)
    figures = repeats.array(lambda cell: cell.metric(question.metric.name))[:, :most]
    whole = np.isfinite(figures.sum(axis=-1))
    found: dict[str, OverImages] = {}
    missing, reference = None, _Answers(question.metric)
    for number, recipe in enumerate(grouping.recipes[1:], start=1):
        pairs = np.flatnonzero(whole[0] & whole[number])
        if not pairs.size:
            continue
        try:
            found[recipe.label] = _compare(repeats, number, pairs.tolist(), reference)
        except _NotKnown as reason:
            missing = missing or str(reason)
    return ImageEvidence(found=found, missing=missing)


class _Answers:
    """The answers of cells, each read once, all of them to the same images."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._split = metric.name.removesuffix("_accuracy")
        self._images: str | None = None
        self._kept: dict[str, np.ndarray] = {}

    def right(self, cell: CellResult) -> np.ndarray:
        """[N] whether each was right.

        Raises:
            _NotKnown: they were not kept, or are those to other images.
        """
        if cell.name not in self._kept:
            self._kept[cell.name] = self._read(cell)
        return self._kept[cell.name]

    def _read(self, cell: CellResult) -> np.ndarray:
        try:
            found = read_predictions(cell.folder, cell.identity, self._split)
        except RunError as error:
            raise _NotKnown(str(error)) from error
        if found is None:
            words = {"val": "validation"}.get(self._split, self._split)
            private = cell.record is not None and cell.record.privacy is not None and self._split == "val"
            why = "unless they are public, a private run does not" if private else "earlier versions did not"
            raise _NotKnown(f"run {cell.name} kept no answers to its {words} images ({why})")
        if abs(found.right.mean() - cell.metric(self._metric.name)) > _ROUNDING:
            raise _NotKnown(f"the answers that run {cell.name} kept have another accuracy than its record")
        if self._images not in (None, found.images):
            raise _NotKnown(f"run {cell.name} was evaluated on other images than those before it")
        self._images = found.images
        return found.right


def _compare(repeats: Repeats, number: int, pairs: Sequence[int], answers: _Answers) -> OverImages:
    other, one = (_shares([repeats.cells[which][pair] for pair in pairs], answers) for which in (0, number))
    single = len(pairs) == 1 and len(repeats.cells[number][pairs[0]]) == 1
    alone = (int((one > other).sum()), int((one < other).sum())) if single else None
    return OverImages(
        images=one.shape[1],
        runs=len(pairs),
        difference=over_images(one, other, scale=100.0),
        alone=alone,
        p_same=math.nan if alone is None else float(mcnemar(*alone)),
    )


def _shares(runs: Sequence[Sequence[CellResult | None]], answers: _Answers) -> Floats:
    """[n, N]: of each repeat, the share of its runs that answered an image rightly."""
    return np.stack([np.mean([answers.right(cell) for cell in row if cell is not None], axis=0) for row in runs])
