"""Verdicts in words: one sentence a comparison, and one for the sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.config.words.pluralize import pluralize
from runner.report.cells import SweepResults
from runner.report.comparison import Comparison, Verdict
from runner.report.constant_answers import describe_constant
from runner.report.decision import Decision
from runner.report.image_evidence import ImageEvidence
from runner.report.image_words import one_pair_each
from runner.report.one_computation import describe_same
from runner.report.question import Question
from runner.report.recipes import Grouping, Recipe, list_labels
from runner.report.recommendation import recommend
from runner.report.statistics import MOST_RUNS, POWER, mean_interval, rate_bounds

_NAMED = 4
"""Recipes of one verdict that a sentence names; more are counted."""


def describe_comparison(comparison: Comparison, question: Question) -> str:
    """What is shown of one recipe against the reference, with its interval."""
    metric, margin = question.metric, question.metric.difference(question.margin, sign=False)
    left, right = comparison.recipe.label, comparison.reference.label
    runs = count_pairs(comparison)
    size = metric.difference(comparison.mean)
    if not math.isnan(comparison.low):
        ends = f"{metric.difference(comparison.low)} to {metric.difference(comparison.high)}"
        size += f" ({question.confidence:.0%} interval {ends}; {runs})"
    else:
        size += f" ({runs})"
    if comparison.depends_on:
        size += f"; the difference depends on {' and '.join(comparison.depends_on)}, over which it is a mean"
    head = f"{left} against {right}: "
    way = "higher" if comparison.mean > 0 else "lower"
    match comparison.verdict:
        case Verdict.EQUIVALENT:
            none = runs_without_failure(comparison, question)
            return f"{head}equivalent within {margin}, {size}; {none}."
        case Verdict.SLIGHT:
            return f"{head}{way}, but by less than {margin}: a real difference that the margin calls too small, {size}."
        case Verdict.DIFFERENT:
            return f"{head}different, {left} is {way}, {size}."
        case Verdict.IDENTICAL:
            return f"{head}identical, the same {metric.words} in each of {runs}: {_resolved(question)}."
        case Verdict.SAME:
            return f"{head}the same computation (one plan identity), so that the difference is noise, {size}."
        case Verdict.FAILURES:
            return f"{head}nothing is claimed, because {_failed(comparison)}; of the others, {size}."
        case Verdict.UNDECIDED:
            return f"{head}not enough runs: {_how_many(comparison, question)}; so far {size}."


def runs_without_failure(comparison: Comparison, question: Question) -> str:
    """What an equivalence is not about: runs that may come to nothing though none of these has."""
    rate = float(rate_bounds(0, min(comparison.runs), question.level)[1])
    return f"runs that fail or diverge are not excluded up to a rate of {rate:.0%}"


def count_pairs(comparison: Comparison) -> str:
    """``5 pairs``, or the runs of either where they share no seed."""
    runs, other_runs = comparison.runs
    return pluralize(runs, "pair") if comparison.paired else f"{runs} and {other_runs} runs, not paired"


def _resolved(question: Question) -> str:
    """What the test set could have told apart."""
    nothing = "no spread to infer anything from"
    if not question.resolution:
        return nothing
    step = question.metric.difference(question.resolution, sign=False)
    return f"{nothing}, and one of {question.images:,} images is {step}, below which nothing shows"


def _failed(comparison: Comparison) -> str:
    named = [
        f"{pluralize(lost, 'run')} of {recipe.label}"
        for lost, recipe in zip(comparison.failures, (comparison.recipe, comparison.reference), strict=True)
        if lost
    ]
    return f"{' and '.join(named)} failed, and what failed is no random part"


def headline(
    sweep: SweepResults,
    grouping: Grouping,
    comparisons: Sequence[Comparison],
    question: Question,
    decision: Decision | None,
    images: ImageEvidence,
) -> str:
    """The recommendation, then the verdict in a few sentences, missing cells and recipes that are one computation."""
    parts = [_unfinished(sweep)] if _unfinished(sweep) else []
    several = any(max(comparison.runs) > 1 for comparison in comparisons)
    if decision is not None and several:
        parts.append(recommend(sweep, grouping, question, decision, images))
    parts += describe_constant(grouping, question)
    return " ".join(
        filter(None, [*parts, _answer(grouping, comparisons, question, decision, images), *describe_same(grouping)])
    )


def _answer(
    grouping: Grouping,
    comparisons: Sequence[Comparison],
    question: Question,
    decision: Decision | None,
    images: ImageEvidence,
) -> str:
    metric = question.metric
    measured = [recipe for recipe in grouping.recipes if recipe.by_block(metric.name)]
    if not measured:
        return f"Nothing can be compared yet: no run has ended with a {metric.words}."
    if len(measured) == 1:
        return _alone(measured[0], question, named=len(grouping.recipes) > 1)
    reference = grouping.recipes[0].label
    if not comparisons:
        return f"Nothing can be compared with {reference}, which has no {metric.words}."
    if all(max(comparison.runs) < 2 for comparison in comparisons):
        single = one_pair_each(images, reference, question)
        return " ".join(filter(None, [_one_run_each(measured, question), single]))
    clauses = []
    # a recommendation says what is shown of these: that its recipe is not worse by more than the margin
    settled = decision is not None and decision.decided
    for verdict in [one for one in Verdict if not (settled and one is Verdict.UNDECIDED)]:
        found = [one for one in comparisons if one.verdict is verdict]
        if found:
            clauses.append(_clause(verdict, found, question))
    absent = [recipe.label for recipe in grouping.recipes if recipe not in measured]
    if absent:
        clauses.append(f"{list_labels(absent)} {'have' if len(absent) > 1 else 'has'} no result")
    return f"In {metric.words}, against {reference}: {'; '.join(clauses)}." if clauses else ""


def _clause(verdict: Verdict, found: Sequence[Comparison], question: Question) -> str:
    names = list_labels([one.recipe.label for one in found])
    is_ = "are" if len(found) > 1 else "is"
    margin = question.metric.difference(question.margin, sign=False)
    match verdict:
        case Verdict.EQUIVALENT:
            return f"{names} {is_} equivalent within {margin}"
        case Verdict.SLIGHT:
            return f"{names} {is_} different, but by less than {margin}"
        case Verdict.DIFFERENT:
            if len(found) > _NAMED:
                lower = sum(one.mean < 0 for one in found)
                return f"{names} {is_} different ({lower} lower, {len(found) - lower} higher)"
            sizes = (f"{one.recipe.label} by {question.metric.difference(one.mean)}" for one in found)
            return f"different: {', '.join(sizes)}"
        case Verdict.IDENTICAL:
            pairs = min(one.runs[0] for one in found)
            return f"{names} {is_} identical in each of {pluralize(pairs, 'pair')}: {_resolved(question)}"
        case Verdict.SAME:
            return f"{names} {is_} the same computation"
        case Verdict.FAILURES:
            return f"{names}: nothing is claimed, because runs failed"
        case Verdict.UNDECIDED:
            worst = max(found, key=lambda one: -1.0 if math.isnan(one.seeds_needed) else one.seeds_needed)
            return f"{names}: not enough runs, {_how_many(worst, question)}"


def _how_many(comparison: Comparison, question: Question) -> str:
    """How many seeds would settle it."""
    margin, needed = question.metric.difference(question.margin, sign=False), comparison.seeds_needed
    if min(comparison.runs) < 2:
        return "from one run a spread cannot be known, at least 2 seeds a cell are needed, better 5"
    if not comparison.spread > 0:
        return "every pair differs by the same amount, so there is no spread to plan with; more seeds are needed"
    if math.isnan(needed):
        return f"the difference found is not below {margin}, so that seeds would show a difference sooner than none"
    if _inside(comparison, question):
        return (
            f"the interval lies within {margin}, and a claim asks for more than that, because all comparisons and looks"
            " share its level, and because few runs may not have seen their tail"
        )
    low, high = comparison.seeds_between
    seeds = f"{count_seeds(needed)} seeds a cell ({count_seeds(low)} to {count_seeds(high)} by what is known)"
    if needed <= min(comparison.runs):
        return f"{seeds} would do if there were no difference (power {POWER:.0%}), so there may be one; more are needed"
    return f"about {seeds} needed to show equivalence within {margin} if there is no difference (power {POWER:.0%})"


def _inside(comparison: Comparison, question: Question) -> bool:
    """Whether the interval alone looks like an equivalence."""
    return max(-comparison.low, comparison.high) < question.margin


def count_seeds(seeds: float) -> str:
    """A number of seeds that somebody may plan with."""
    return f"over {MOST_RUNS:,}" if math.isinf(seeds) else f"{seeds:,.0f}"


def _alone(recipe: Recipe, question: Question, *, named: bool) -> str:
    metric = question.metric
    values = [metric.scale * value for value in recipe.by_block(metric.name).values()]
    mean = metric.text(sum(values) / len(values))
    what = f"Only {recipe.label} has a result" if named else "One recipe" if len(values) > 1 else "One run"
    if len(values) == 1:
        return f"{what}: {metric.words} {mean}."
    low, high = mean_interval(values, question.confidence)
    interval = "" if math.isnan(low) else f" ({question.confidence:.0%} interval {metric.interval(low, high)})"
    return f"{what}, {pluralize(len(values), 'run')}: {metric.words} {mean} on average{interval}."


def _one_run_each(recipes: Sequence[Recipe], question: Question) -> str:
    metric = question.metric
    means = {recipe.label: recipe.mean(lambda cell: cell.metric(metric.name)) or 0.0 for recipe in recipes}
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    span = f"{metric.text(metric.scale * means[low])} ({low})"
    if low != high:
        span += f" to {metric.text(metric.scale * means[high])} ({high})"
    single = all(len(recipe.finished) == 1 for recipe in recipes)
    runs = "One run a recipe" if single else "One pair of runs"
    return (
        f"{runs}: {metric.words} {span}. From one run a spread cannot be known, so no difference is shown and none is"
        " excluded; repeat with several seeds, such as seed=0,1,2,3,4."
    )


def _unfinished(sweep: SweepResults) -> str:
    """What is missing from a sweep that is not complete, as the beginning of its verdict."""
    failed, waiting = sum(cell.failed for cell in sweep.cells), sum(cell.unfinished for cell in sweep.cells)
    parts = []
    if sweep.unknown:
        parts.append(f"{pluralize(len(sweep.unknown), 'cell')} left out, because what was asked is unknown")
    if failed:
        parts.append(f"{failed} of {pluralize(len(sweep.cells), 'cell')} failed")
    if waiting:
        begun, has = pluralize(len(sweep.cells), "cell"), "has" if waiting == 1 else "have"
        some = "the only cell" if len(sweep.cells) == 1 else f"{waiting} of the {begun}"
        parts.append(f"{some} begun {has} not ended")
    if sweep.not_begun:
        asked = pluralize(len(sweep.cells) + len(sweep.unknown) + sweep.not_begun, "cell")
        parts.append(f"{sweep.not_begun} of {asked} {'has' if sweep.not_begun == 1 else 'have'} not begun")
    text = list_labels(parts) if parts else ""
    return f"{text[0].upper()}{text[1:]}." if text else ""
