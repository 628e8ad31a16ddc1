"""The recipes of a sweep held against one of them, and what can be said of each difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from runner.report.cells import REPEATS
from runner.report.one_computation import have_one_plan
from runner.report.question import Question
from runner.report.recipes import Block, Grouping, Recipe
from runner.report.statistics import Estimate, Floats, holm, paired, runs_needed, unpaired


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
    """Seeds a recipe that would show an equivalence that holds; NaN without a spread, infinite when absurdly many."""


def compare(grouping: Grouping, question: Question) -> tuple[Comparison, ...]:
    """Every recipe with a result but the first, in order, against the first; empty when that one has none."""
    reference = grouping.recipes[0]
    others = [recipe for recipe in grouping.recipes[1:] if recipe.by_block(question.metric.name)]
    if not others or not reference.by_block(question.metric.name):
        return ()
    samples = [_sample(recipe, reference, question) for recipe in others]
    estimates = [_estimate(sample) for sample in samples]
    different, equivalent, p_different, p_equivalent = decide(estimates, question.margin, question.level)
    compared = []
    for number, (recipe, sample, estimate) in enumerate(zip(others, samples, estimates, strict=True)):
        low, high = estimate.interval(question.confidence)
        if have_one_plan(recipe, reference):
            verdict = Verdict.SAME
        elif sample.paired and sample.runs[0] > 1 and float(estimate.mean) == float(estimate.error) == 0.0:
            verdict = Verdict.IDENTICAL
        else:
            verdict = name(bool(different[number]), bool(equivalent[number]))
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
                verdict=verdict,
                spread=float(estimate.spread),
                seeds_needed=_seeds_needed(estimate, sample, grouping, question, comparisons=len(others)),
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


def name(different: bool, equivalent: bool) -> Verdict:
    """The verdict on a comparison of which so much is shown."""
    if different:
        return Verdict.SLIGHT if equivalent else Verdict.DIFFERENT
    return Verdict.EQUIVALENT if equivalent else Verdict.UNDECIDED


@dataclass(frozen=True, kw_only=True)
class _Sample:
    values: list[float]
    reference: list[float]
    blocks: tuple[Block, ...]
    """Of the pairs; empty when there are none."""

    @property
    def paired(self) -> bool:
        return bool(self.blocks)

    @property
    def runs(self) -> tuple[int, int]:
        return len(self.values), len(self.reference)


def _sample(recipe: Recipe, reference: Recipe, question: Question) -> _Sample:
    """The runs that can be compared: those that share their block or, where fewer than two do, all there are."""
    scale = question.metric.scale
    one, other = recipe.by_block(question.metric.name), reference.by_block(question.metric.name)
    shared = tuple(block for block in other if block in one)
    if len(shared) < 2 and len(one) > 1 and len(other) > 1:
        shared = ()
    keys = (shared, shared) if shared else (tuple(one), tuple(other))
    return _Sample(
        values=[scale * one[block] for block in keys[0]],
        reference=[scale * other[block] for block in keys[1]],
        blocks=shared,
    )


def _estimate(sample: _Sample) -> Estimate:
    return (paired if sample.paired else unpaired)(sample.values, sample.reference)


def _seeds_needed(
    estimate: Estimate, sample: _Sample, grouping: Grouping, question: Question, *, comparisons: int
) -> float:
    # Holm compares the smallest p-value with level / comparisons: enough for that step is enough for the others
    if not float(estimate.spread) > 0:
        return math.nan
    runs = float(runs_needed(estimate.spread, question.margin, question.level / comparisons))
    # with a further key crossed, learning rates say, each seed makes several pairs
    apart = [position for position, key in enumerate(grouping.crossed) if key not in REPEATS]
    pairs_a_seed = len({tuple(block[position] for position in apart) for block in sample.blocks}) or 1
    return runs if math.isinf(runs) else math.ceil(runs / pairs_a_seed)
