"""The recommendation in words: which recipe, why, what that rests on, what is not known and what would settle it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.config.words.pluralize import pluralize
from runner.environment.energy import NO_METER
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.report.cells import SweepResults
from runner.report.decision import COSTS, Decision, qualities
from runner.report.decision_rule import CLOSE, DIVERGED, cost_difference, find_diverged, log_costs
from runner.report.image_evidence import ImageEvidence
from runner.report.image_words import over_new_images
from runner.report.one_run import describe_run, duration_text
from runner.report.published_epsilon import describe_publishing
from runner.report.question import Question
from runner.report.recipes import Grouping, epsilon, list_labels, seconds
from runner.report.repeats import Repeats, read_repeats
from runner.report.statistics import Estimate, paired, rate_bounds

_REPEATED = (
    "seed=",
    "seeds=",
    "comparison.until=",
    "comparison.max_hours=",
    "hydra.sweep.dir=",
    "hydra.sweeper.halving=",
)
"""What of a sweep's command does not stand in the one that settles it: the rounds of seeds take its place, or it kept
the sweep from that."""


_UNMEASURED = {
    "money": "hardware.price_per_hour is not set",
    "joules": NO_METER,
}
"""Why a cost may be unknown."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One recipe against another, over the pairs that the decision used."""

    pairs: int
    quality: Estimate
    """In the unit of the metric, one minus the other."""
    costs: dict[str, Estimate]
    """Logarithm of a cost, one minus the other, by its name."""


def weigh_edge(grouping: Grouping, question: Question, decision: Decision, one: str, other: str) -> Edge:
    """The recipe labelled ``one`` against ``other``."""
    repeats = read_repeats(grouping)
    labels = [recipe.label for recipe in grouping.recipes]
    numbers = [labels.index(one), labels.index(other)]
    most = decision.look if decision.planned and decision.look else len(repeats.names)
    metric = question.metric
    first, second = metric.scale * repeats.array(lambda cell: cell.metric(metric.name))[numbers][:, :most].mean(axis=-1)
    shared = ~np.isnan(first) & ~np.isnan(second)
    costs = {}
    for name, cost in COSTS.items():
        left, right = log_costs(repeats.array(cost)[numbers][:, :most])
        costs[name] = cost_difference(left, right)
    return Edge(
        pairs=int(shared.sum()),
        quality=paired(first, second, shared_training=repeats.shared_training, resolution=question.resolution),
        costs=costs,
    )


def recommend(
    sweep: SweepResults, grouping: Grouping, question: Question, decision: Decision, images: ImageEvidence
) -> str:
    """The first sentences of a report of several recipes."""
    if decision.leader is None:
        return "No recipe is left to recommend: each failed too often."
    rivals = [recipe.label for recipe in grouping.recipes if recipe.label != decision.leader]
    rival = _main_rival(grouping, decision, rivals)
    edge = weigh_edge(grouping, question, decision, decision.leader, rival)
    reasons = _reasons(edge, rival, grouping, question, decision)
    head = f"Use {decision.leader}: " if decision.decided else f"So far {decision.leader} leads: "
    cheaper = _cheaper(grouping, question, decision)
    sentences = [f"{head}{reasons}.", *_others(decision, [label for label in rivals if label != rival], cheaper)]
    repeats = read_repeats(grouping)
    leader = next(recipe for recipe in grouping.recipes if recipe.label == decision.leader)
    sentences.append(_rests_on(edge, repeats, question, decision))
    sentences += filter(None, [beyond := over_new_images(images, decision.leader, rival, question)])
    sentences += filter(
        None,
        [
            describe_run(sweep, leader.cells, question.metric, head=f"A run of {leader.label}"),
            describe_publishing(sweep, leader, grouping),
        ],
    )
    sentences += _failures(grouping, repeats, question, decision, images_known=beyond is not None)
    if not decision.decided:
        sentences.append(_settle(sweep, grouping, question, decision))
    return " ".join(sentences)


def _main_rival(grouping: Grouping, decision: Decision, rivals: Sequence[str]) -> str:
    """The recipe that the leader is described against: the reference or, where that leads, the nearest alternative."""
    reference = grouping.recipes[0].label
    if decision.leader != reference:
        return reference
    measured = {recipe.label for recipe in grouping.recipes if recipe.finished}
    still = [label for label in rivals if label in measured and label not in _labels(decision, None)]
    preferred = [label for label in decision.waiting if label in rivals]
    return next(iter([*preferred, *still, *(label for label in rivals if label in measured), *rivals]))


def _reasons(edge: Edge, rival: str, grouping: Grouping, question: Question, decision: Decision) -> str:
    metric = question.metric
    assert decision.leader is not None
    parts = _cost_words(edge, grouping, question, decision.leader, rival)
    if edge.pairs == 0:
        return f"{', '.join(parts) or 'no cost is shown to differ'}; no seed is shared with {rival}"
    size = f"{metric.words} {metric.difference(float(edge.quality.mean))} against {rival}"
    low, high = (float(end) for end in edge.quality.interval(question.confidence))
    if math.isnan(low):
        size += f" in {pluralize(edge.pairs, 'pair')}, which is no spread to infer from"
    else:
        ends = f"{metric.difference(low)} to {metric.difference(high)}"
        shown = decision.decided and rival not in _labels(decision, "failures")
        size += f" ({question.confidence:.0%} interval {ends}), {_unlikely(low, high, question, shown=shown)}"
    costs = ", ".join(parts)
    if question.decision in _UNMEASURED and not edge.costs[question.decision].runs:
        costs = ", ".join([*parts, f"no run has measured {question.decision} ({_UNMEASURED[question.decision]})"])
    if not costs:
        costs = f"no difference in {question.decision} from {rival} is shown"
    return f"{costs}; {size}"


def _unlikely(low: float, high: float, question: Question, *, shown: bool) -> str:
    """What the interval of a difference leaves out; ``shown`` where the decision's bound left out the margin too."""
    metric = question.metric
    loss = max(-low, 0.0) if metric.is_accuracy else max(high, 0.0)
    if loss == 0:
        return "so that a loss is unlikely"
    loss = min(loss, question.margin) if shown else loss
    return f"so a loss of more than {metric.difference(loss, sign=False)} is unlikely"


def _cost_words(edge: Edge, grouping: Grouping, question: Question, leader: str, rival: str) -> list[str]:
    """The costs that are shown to differ, each in a few words; first the one that decides."""
    said = {}
    for name, logs in edge.costs.items():
        ratio = math.exp(-float(logs.mean)) if not math.isnan(float(logs.mean)) else math.nan
        low, high = float(logs.lower(question.level)), float(logs.upper(question.level))
        shown = max(low, -high) > math.log1p(CLOSE)
        if name != "epsilon" and (not shown or math.isnan(ratio)):
            continue
        if name == "seconds":
            said[name] = f"{ratio:.2g}x as fast" if ratio > 1.1 else _share("time", ratio)
        elif name == "memory":
            said[name] = _share("memory", ratio)
        elif name == "money":
            said[name] = _share("money", ratio)
        elif name == "joules":
            said[name] = _share("energy", ratio)
        elif (words := _epsilon_words(grouping, leader, rival)) is not None:
            said[name] = words
    order = sorted(said, key=lambda name: (name != question.decision, list(COSTS).index(name)))
    return [said[name] for name in order]


def _share(what: str, ratio: float) -> str:
    """``17% less memory``; ``ratio`` is that of the other recipe's cost to this one's."""
    if ratio >= 1:
        return f"{1 - 1 / ratio:.0%} less {what}"
    return f"{1 / ratio:.2g}x the {what}" if ratio < 0.6 else f"{1 / ratio - 1:.0%} more {what}"


def _epsilon_words(grouping: Grouping, leader: str, rival: str) -> str | None:
    spent = {recipe.label: recipe.measured(epsilon) for recipe in grouping.recipes}
    one, other = spent[leader], spent[rival]
    if not one and not other:
        return None
    words = [f"ε = {epsilon_text(max(values))}" if values else "no privacy" for values in (one, other)]
    return None if words[0] == words[1] else f"{words[0]} instead of {words[1]}"


def _labels(decision: Decision, reason: str | None) -> list[str]:
    return [one.label for one in decision.dropped if reason in (None, one.reason)]


def _cheaper(grouping: Grouping, question: Question, decision: Decision) -> list[str]:
    """Of the recipes that were waited for, those that cost less in the mean; others come first where costs are tied."""
    assert decision.leader is not None
    edges = {label: weigh_edge(grouping, question, decision, decision.leader, label) for label in decision.waiting}
    return [label for label, edge in edges.items() if float(edge.costs[question.decision].mean) > 0]


def _others(decision: Decision, rivals: Sequence[str], cheaper: Sequence[str]) -> list[str]:
    """What became of the recipes that the first sentence does not speak of."""
    clauses = []
    for reason, words in (
        ("worse", "worse by more than the margin"),
        ("failures", "failing too often"),
        ("equivalent, dearer", "within the margin and no cheaper"),
    ):
        if found := [label for label in _labels(decision, reason) if label in rivals or reason == "failures"]:
            clauses.append(f"{words}: {list_labels(found)}")
    tied = [label for label in decision.waiting if label not in cheaper]
    if decision.decided and cheaper:
        clauses.append(f"cheaper, but not shown to lie within the margin: {list_labels(cheaper)}")
    if decision.decided and tied:
        clauses.append(f"not shown to be dearer, nor to lie within the margin: {list_labels(tied)}")
    text = "; ".join(clauses)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _rests_on(edge: Edge, repeats: Repeats, question: Question, decision: Decision) -> str:
    margin = question.metric.difference(question.margin, sign=False)
    if repeats.are_splits:
        noun, claim = (
            "split",
            (
                "the intervals allow for splits that share training data (Nadeau and Bengio), so the claim is about new"
                " data of this kind"
            ),
        )
    else:
        noun, claim = "paired seed", "the claim is about training again on this split"
    used = pluralize(edge.pairs, noun)
    image = ""
    if question.resolution:
        split = question.metric.name.partition("_")[0]
        if question.margin < question.resolution * (1 - 1e-9):
            image = f", which is less than one of the {question.images:,} {split} images and so cannot be resolved"
        elif question.margin == question.resolution:
            image = f", one of the {question.images:,} {split} images"
    looks = f", planned looks at {_counts(decision.looks)}" if decision.planned else ""
    return f"That rests on {used} of each{looks}, and a margin of {margin}{image}; {claim}."


def _failures(
    grouping: Grouping, repeats: Repeats, question: Question, decision: Decision, *, images_known: bool
) -> list[str]:
    """Runs that came to nothing, and what is not known: how many more of the leader's may, and what holds elsewhere."""
    most = decision.look if decision.planned and decision.look else len(repeats.names)
    failed = repeats.failed(question.metric.name)[:, :most]
    diverged = find_diverged(qualities(repeats, question)[:, :most], question.margin)
    runs = failed | ~np.isnan(repeats.array(seconds)[:, :most])
    labels = [recipe.label for recipe in grouping.recipes]
    sentences = []
    for what, lost, then in (
        ("Failed", failed, "each counts as the worst of all"),
        ("Diverged", diverged, f"each ended more than {DIVERGED:.0f} margins below the median of its recipe"),
    ):
        counts = zip(labels, lost.sum(axis=(1, 2)), runs.sum(axis=(1, 2)), strict=True)
        if named := [f"{some} of {pluralize(int(all_), 'run')} of {label}" for label, some, all_ in counts if some]:
            sentences.append(f"{what}: {', '.join(named)}; {then}.")
    leader = labels.index(decision.leader or "")
    some, all_ = int((failed | diverged)[leader].sum()), int(runs[leader].sum())
    unknown = []
    if all_:
        rate = float(rate_bounds(some, all_, question.level)[1])
        unknown = [
            f"whether fewer than {rate:.0%} of its runs fail or diverge ({some or 'none'} of {all_} did, and this is"
            " about runs that do neither)"
        ]
    if question.images and question.metric.is_accuracy and not repeats.are_splits and not images_known:
        unknown.append(f"how other images than these {question.images:,} would be answered")
    return [*sentences, f"Not known: {'; '.join(unknown)}."] if unknown else sentences


def _settle(sweep: SweepResults, grouping: Grouping, question: Question, decision: Decision) -> str:
    """What is missing, and the command that looks until it is there, with its time and epsilon."""
    if not decision.planned and sweep.not_ended:
        rest = f"Missing: the {pluralize(sweep.not_ended, 'cell')} still to end"
        return f"{rest}. To go on: `{sweep.command} hydra.sweep.dir={sweep.folder}`." if sweep.command else f"{rest}."
    missing = [label for label in decision.in_question if label != decision.leader]
    margin = question.metric.difference(question.margin, sign=False)
    what = f"Missing: that it lies within {margin} of {list_labels(missing)}" if missing else "Missing: runs"
    repeats = read_repeats(grouping)
    if repeats.are_splits:
        return f"{what}; no more of the same folds can show that, a larger margin or more data can."
    if decision.planned and decision.next_look is None:
        return f"{what}; {pluralize(decision.look, 'seed')} did not show it, so ask for a larger margin."
    command = _command(sweep, decision)
    target = decision.next_look or 10
    # rounds go on in their folder; seeds that were fixed beforehand are no beginning of planned looks
    price = _price(grouping, decision, target, there=decision.look if decision.planned else 0)
    asked = f"`{command}`" if command else "`comparison.until=decided`"
    return f"{what}. To settle it: {asked}{price}."


def _command(sweep: SweepResults, decision: Decision) -> str | None:
    if sweep.command is None:
        return None
    kept = [word for word in shlex.split(sweep.command) if not word.startswith(_REPEATED)]
    place = [f"hydra.sweep.dir={sweep.folder}"] if decision.planned else []
    return shlex.join([*kept, "comparison.until=decided", *place])


def _price(grouping: Grouping, decision: Decision, target: int, *, there: int) -> str:
    recipes = [recipe for recipe in grouping.recipes if recipe.label in decision.in_question]
    each = [time for recipe in recipes if (time := recipe.mean(seconds)) is not None]
    if not each:
        return ""
    spent = [value for recipe in recipes for value in recipe.measured(epsilon)]
    private = f", and each further private run spends ε = {epsilon_text(max(spent))}" if spent else ""
    return f" (about {duration_text((target - there) * sum(each))} to {target} seeds, one run after another{private})"


def _counts(looks: Sequence[int]) -> str:
    return f"{', '.join(map(str, looks[:-1]))} and {looks[-1]}" if len(looks) > 1 else str(looks[0])
