"""The recipes of a sweep held against one of them, and what can be said of each difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from runner.config.looks import FIRST_LOOK
from runner.report.decision import Decision
from runner.report.decision_rule import Booleans
from runner.report.one_computation import have_one_plan
from runner.report.question import Metric, Question
from runner.report.recipes import Grouping, Recipe
from runner.report.repeats import Repeats, read_repeats
from runner.report.statistics import (
    Estimate,
    Floats,
    holm,
    interaction,
    paired,
    rate_bounds,
    runs_needed,
    seeds_range,
    unpaired,
)


class Verdict(StrEnum):
    """What can be said of the difference between two recipes."""

    EQUIVALENT = "equivalent"
    """Smaller than the margin, and not shown to differ at all."""
    DIFFERENT = "different"
    """Shown to differ, and not shown to differ by less than the margin."""
    SLIGHT = "slightly different"
    """Both: a difference is shown, and it is shown to be smaller than the margin."""
    IDENTICAL = "identical"
    """Every pair has the very same figure: there is nothing to infer, and no spread to infer from."""
    FAILURES = "runs failed"
    """Runs of the better one failed: what is left of it is no fair sample."""
    SAME = "same computation"
    """The runs have one plan: whatever the difference, it is no effect of the recipe."""
    UNDECIDED = "not enough runs"
    """Neither is shown."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One recipe against the reference; figures in the unit of the metric, recipe minus reference."""

    recipe: Recipe
    reference: Recipe
    runs: tuple[int, int]
    """Runs of the recipe and of the reference that were compared; where they are paired, the number of pairs twice."""
    paired: bool
    mean: float
    low: float
    """Lower end of the interval; NaN without a spread."""
    high: float
    p_different: float
    """Adjusted for the number of comparisons, as is ``p_equivalent``."""
    p_equivalent: float
    verdict: Verdict
    spread: float
    """Standard deviation of the difference that one run of either makes; NaN when it cannot be known."""
    seeds_needed: float
    """Seeds a recipe that would show an equivalence that holds; NaN without a spread, and where the difference that was
    found is not smaller than the margin; infinite when absurdly many."""
    seeds_between: tuple[float, float]
    """What ``seeds_needed`` may be, by the 90 % interval of the spread."""
    failures: tuple[int, int]
    """Runs of the recipe and of the reference that failed, or ended without a finite figure."""
    depends_on: tuple[str, ...] = ()
    """Keys that were averaged within a seed and on which the difference is shown to depend."""


def compare(grouping: Grouping, question: Question, decision: Decision) -> tuple[Comparison, ...]:
    """Every recipe with a result but the first, in order, against the first; empty when that one has none.

    Where looks are planned, a claim uses the seeds of the last look that was taken and its share of the level.
    """
    reference = grouping.recipes[0]
    others = [recipe for recipe in grouping.recipes[1:] if recipe.by_block(question.metric.name)]
    if not others or not reference.by_block(question.metric.name):
        return ()
    repeats = read_repeats(grouping)
    level = question.level * decision.level_share
    most = decision.look if decision.planned and decision.look else len(repeats.names)
    every = [(recipe, _sample(repeats, grouping, recipe, question, most)) for recipe in others]
    # a recipe of which no repeat is whole, because a setting failed in each, has nothing to be compared by
    whole = [one for one in every if min(one[1].runs)]
    if not whole:
        return ()
    others, samples = [recipe for recipe, _ in whole], [sample for _, sample in whole]
    estimates = [_estimate(sample, repeats, question) for sample in samples]
    different, equivalent, p_different, p_equivalent = decide(estimates, question.margin, level)
    compared = []
    for number, (recipe, sample, estimate) in enumerate(zip(others, samples, estimates, strict=True)):
        low, high = estimate.interval(question.confidence)
        # Welch's degrees of freedom promise too much of two or three runs whose spreads differ
        enough = sample.paired or min(sample.runs) >= FIRST_LOOK
        close = (
            enough
            and bool(equivalent[number])
            and all(rate_bounds(*counts, question.level)[1] <= question.failure_rate for counts in sample.counts)
        )
        compared.append(
            Comparison(
                recipe=recipe,
                reference=reference,
                runs=sample.runs,
                paired=sample.paired,
                mean=float(estimate.mean),
                low=float(low),
                high=float(high),
                p_different=float(p_different[number]),
                p_equivalent=float(p_equivalent[number]),
                verdict=_verdict(sample, recipe, reference, enough and bool(different[number]), close, question.metric),
                spread=float(estimate.spread),
                seeds_needed=_seeds_needed(estimate, question, comparisons=len(others)),
                seeds_between=_seeds_between(estimate, question, comparisons=len(others)),
                failures=(int(sample.counts[0][0]), int(sample.counts[1][0])),
                depends_on=repeats.averaged if float(sample.interaction) <= level / len(others) else (),
            )
        )
    return tuple(compared)


def decide(estimates: Sequence[Estimate], margin: float, level: float) -> tuple[np.ndarray, np.ndarray, Floats, Floats]:
    """What is shown of each of several comparisons with one reference, at ``level`` over all of them.

    Args:
        estimates: m of them, of one shape [...].
        margin: in the unit of the estimates.
        level: largest probability of one wrong "different" among them, and of one wrong "equivalent".

    Returns:
        [m, ...]: whether a difference is shown; whether it is shown to be smaller than ``margin``; and the p-values of
        both by Holm's method, which is applied to the two kinds of claim separately.
    """
    different = np.stack([estimate.p_different() for estimate in estimates], axis=-1)
    equivalent = np.stack([estimate.p_equivalent(margin) for estimate in estimates], axis=-1)
    p_different, p_equivalent = (np.moveaxis(holm(p), -1, 0) for p in (different, equivalent))
    return p_different <= level, p_equivalent <= level, p_different, p_equivalent


def withhold(
    different: ArrayLike, equivalent: ArrayLike, better: ArrayLike, lost: ArrayLike, reference_lost: ArrayLike
) -> tuple[Booleans, Booleans]:
    """What may be said where runs failed: nothing that what is left of a recipe could flatter it by.

    Args:
        different: whether a difference is shown, of comparisons [...].
        equivalent: whether equivalence is.
        better: whether the recipe has the better mean.
        lost: runs of the recipe that failed.
        reference_lost: those of the reference.
    """
    flattered = np.where(better, lost, reference_lost)
    some = (np.asarray(lost) > 0) | (np.asarray(reference_lost) > 0)
    return np.asarray(different) & (flattered == 0), np.asarray(equivalent) & ~some


def name(different: bool, equivalent: bool) -> Verdict:
    """The verdict on a comparison of which so much is shown."""
    if different:
        return Verdict.SLIGHT if equivalent else Verdict.DIFFERENT
    return Verdict.EQUIVALENT if equivalent else Verdict.UNDECIDED


@dataclass(frozen=True, kw_only=True)
class _Sample:
    values: Floats
    reference: Floats
    paired: bool
    interaction: Floats
    """p-value of the differences being the same whatever was averaged."""
    counts: tuple[tuple[float, float], tuple[float, float]]
    """(failed runs, all that ended) of the recipe and of the reference."""

    @property
    def runs(self) -> tuple[int, int]:
        return len(self.values), len(self.reference)

    @property
    def identical(self) -> bool:
        """Whether several pairs have no difference at all, but for rounding."""
        return self.paired and len(self.values) > 1 and bool(np.allclose(self.values, self.reference, 1e-9, 0.0))


def _sample(repeats: Repeats, grouping: Grouping, recipe: Recipe, question: Question, most: int) -> _Sample:
    """The repeats that can be compared: those that are shared or, where fewer than two are, all there are."""
    metric = question.metric
    numbers = [grouping.recipes.index(recipe), 0]
    runs = metric.scale * repeats.array(lambda cell: cell.metric(metric.name))[numbers][:, :most]
    runs = np.where(np.isfinite(runs), runs, np.nan)
    failed = repeats.failed(metric.name)[numbers][:, :most]
    counts = [
        (float(some.sum()), float((some | ~np.isnan(all_)).sum())) for some, all_ in zip(failed, runs, strict=True)
    ]
    # what ended in only some of the settings of a repeat is left out: its mean would be of other settings
    one, other = runs.mean(axis=-1)
    shared = ~np.isnan(one) & ~np.isnan(other)
    pairs = shared.sum() > 1 or (~np.isnan(one)).sum() < 2 or (~np.isnan(other)).sum() < 2
    if pairs and shared.any():
        values, reference = one[shared], other[shared]
    else:
        values, reference = one[~np.isnan(one)], other[~np.isnan(other)]
    return _Sample(
        values=values,
        reference=reference,
        paired=bool(pairs and shared.any()),
        interaction=interaction(runs[0, shared] - runs[1, shared]),
        counts=(counts[0], counts[1]),
    )


def _estimate(sample: _Sample, repeats: Repeats, question: Question) -> Estimate:
    if not sample.paired:
        return unpaired(sample.values, sample.reference)
    return paired(
        sample.values,
        sample.reference,
        shared_training=repeats.shared_training,
        resolution=question.resolution,
    )


def _verdict(
    sample: _Sample, recipe: Recipe, reference: Recipe, different: bool, equivalent: bool, metric: Metric
) -> Verdict:
    if have_one_plan(recipe, reference):
        return Verdict.SAME
    (lost, _), (reference_lost, _) = sample.counts
    better = (sample.values.mean() > sample.reference.mean()) == metric.is_accuracy
    said = withhold(different, equivalent, better, lost, reference_lost)
    if (bool(said[0]), bool(said[1])) != (different, equivalent):
        return Verdict.FAILURES
    if sample.identical:
        return Verdict.IDENTICAL
    return name(different, equivalent)


def _seeds_needed(estimate: Estimate, question: Question, *, comparisons: int) -> float:
    # Holm compares the smallest p-value with level / comparisons: enough for that step is enough for the others
    if not float(estimate.spread) > 0 or abs(float(estimate.mean)) >= question.margin:
        return math.nan
    return float(runs_needed(estimate.spread, question.margin, question.level / comparisons))


def _seeds_between(estimate: Estimate, question: Question, *, comparisons: int) -> tuple[float, float]:
    if math.isnan(_seeds_needed(estimate, question, comparisons=comparisons)):
        return math.nan, math.nan
    return seeds_range(float(estimate.spread), float(estimate.runs), question.margin, question.level / comparisons)
