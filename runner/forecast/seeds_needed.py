"""How many seeds the question of a sweep needs, from earlier sweeps that asked the same of the same data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from runner.config.looks import FIRST_LOOK, count_looks, plan_looks
from runner.config.schema import ComparisonConfig
from runner.config.words.pluralize import pluralize
from runner.errors import RequestError, RunError
from runner.forecast.forecast import Interval
from runner.forecast.quantities import seconds_range
from runner.planning.plan import Plan
from runner.records.run_file import FINISHED, RUN_FILE, read_run
from runner.records.sweep_cells import find_cells
from runner.report.cells import SweepResults, read_sweep
from runner.report.decision import qualities
from runner.report.question import ACCURACY_MARGIN, Metric, ask
from runner.report.recipes import group
from runner.report.repeats import SEEDS, SPLITS, read_repeats
from runner.report.run_list import find_sweeps
from runner.report.statistics import MOST_RUNS, POWER, paired, power_to_show_equivalence, runs_needed

OUTPUTS = Path("outputs")
"""Where sweeps go whose folder nobody names."""
_OUTER = 0.05
"""Probability that the spread lies beyond either end of its interval."""
_MOST_LARGE = 1000.0
"""Margin, in standard deviations, that any number of seeds resolves."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviation of the difference of two recipes on one seed, in the unit of the margin."""

    recipe: str
    """Of the recipes that were compared with the reference the one that scattered most."""
    expected: float
    low: float
    """With ``high`` the ends of the 90 % interval, by the chi-square distribution of the sample's own deviation."""
    high: float
    pairs: int
    sweeps: tuple[str, ...]
    """The folders that it was found in."""


@dataclass(frozen=True, kw_only=True)
class SeedsForecast:
    """What the question of a sweep needs."""

    metric: str
    margin: float
    """Percentage points or nats, as it will be asked."""
    resolution: float | None
    """What one image makes of an accuracy; None for a loss."""
    images: int | None
    looks: tuple[int, ...]
    """Planned looks; one alone where the number of seeds is fixed."""
    spread: Spread | None
    """None where no earlier sweep tells it."""
    needed: tuple[float, float, float] | None
    """Seeds a recipe for the low end of the spread, the expected one and the high end; infinite when absurdly many."""
    margins: Mapping[int, float]
    """Seeds a recipe -> the smallest margin that they are likely to resolve."""


def forecast_seeds(
    comparison: ComparisonConfig, plans: Sequence[Plan], varied: Collection[str], *, recipes: int, seeds: int
) -> SeedsForecast | None:
    """What the question of a sweep needs; None where it compares nothing, or no margin is known.

    Args:
        comparison: the question.
        plans: of its kinds of cells.
        varied: the keys in which its cells differ.
        recipes: how many it compares.
        seeds: of each, as asked; those before the first look where more may follow.
    """
    if recipes < 2:
        return None
    metric, images = _metric_of(comparison, plans[0])
    if comparison.margin is None and not metric.is_accuracy:
        return None
    resolution = metric.scale / images if metric.is_accuracy and images else None
    margin = comparison.margin or max(ACCURACY_MARGIN, resolution or 0.0)
    looks = (seeds,) if comparison.until is None else plan_looks(comparison.max_seeds)
    level = (1 - comparison.confidence) / (count_looks(len(looks)) * (recipes - 1))
    spread = find_spread(plans, {key for key in varied if key not in (*SEEDS, *SPLITS)}, metric)
    needed = None
    margins = {}
    if spread is not None:
        each = (spread.low, spread.expected, spread.high)
        low, expected, high = (float(runs_needed(deviation, margin, level)) for deviation in each)
        needed = low, expected, high
        asked = [look for look in looks if look > 1]
        margins = {look: max(_resolved(spread.expected, look, level), resolution or 0.0) for look in asked}
    return SeedsForecast(
        metric=metric.name,
        margin=margin,
        resolution=resolution,
        images=images,
        looks=looks,
        spread=spread,
        needed=needed,
        margins=margins,
    )


def find_spread(plans: Sequence[Plan], keys: Collection[str], metric: Metric, root: Path = OUTPUTS) -> Spread | None:
    """The spread that earlier sweeps below ``root`` found, over the same ``keys`` and for the data and models planned.

    None where there is none with two pairs.  Sweeps that cannot be read are passed over: this is but a forecast.
    """
    kinds = [_kind(plan.as_dict()["semantic"]) for plan in plans]
    squares: dict[str, float] = {}
    degrees: dict[str, int] = {}
    pairs: dict[str, int] = {}
    found: dict[str, None] = {}
    for folder in find_sweeps(root):
        try:
            sweep = _read_alike(folder, kinds)
            if sweep is None or {key for key in sweep.varied if key not in (*SEEDS, *SPLITS)} != set(keys):
                continue
            differences = _differences(sweep, metric)
        except (RequestError, RunError, OSError):
            continue
        for label, (square, number) in differences.items():
            squares[label] = squares.get(label, 0.0) + square
            degrees[label] = degrees.get(label, 0) + number
            pairs[label] = pairs.get(label, 0) + number + 1
            found[str(folder)] = None
    if not degrees:
        return None
    widest = max(degrees, key=lambda label: squares[label] / degrees[label])
    expected, free = math.sqrt(squares[widest] / degrees[widest]), degrees[widest]
    return Spread(
        recipe=widest,
        expected=expected,
        low=expected * math.sqrt(free / special.chdtri(free, _OUTER)),
        high=expected * math.sqrt(free / special.chdtri(free, 1 - _OUTER)),
        pairs=pairs[widest],
        sweeps=tuple(found),
    )


def _read_alike(folder: Path, kinds: Sequence[tuple[object, ...]]) -> SweepResults | None:
    """The sweep in ``folder`` if its first finished cell is of one of the ``kinds``; None if not."""
    for name in find_cells(folder).cells:
        record = read_run(folder / name) if (folder / name / RUN_FILE).exists() else None
        if record is not None and record.status in FINISHED:
            return read_sweep(folder) if _kind(record.plan.get("semantic", {})) in kinds else None
    return None


def _kind(semantic: Mapping[str, Any]) -> tuple[object, ...]:
    """What makes two runs of one kind whose scatter may be the same."""
    model, data = semantic.get("model", {}), semantic.get("data", {})
    size = json.dumps([model.get("target"), model.get("options")], sort_keys=True, default=str)
    return data.get("fingerprint"), size, semantic.get("steps"), semantic.get("privacy") is not None


def _differences(sweep: SweepResults, metric: Metric) -> dict[str, tuple[float, int]]:
    """Recipe -> sum of squares and degrees of freedom of its differences from the reference, seed by seed."""
    question = ask(sweep)
    if question.metric != metric:
        return {}
    grouping = group(sweep, question)
    repeats = read_repeats(grouping)
    if repeats.are_splits:
        return {}
    values = qualities(repeats, question).mean(axis=-1)
    found = {}
    for recipe, own in zip(grouping.recipes[1:], values[1:], strict=True):
        estimate = paired(own, values[0], resolution=question.resolution)
        if float(estimate.degrees) >= 1:
            found[recipe.label] = float(estimate.spread) ** 2 * float(estimate.degrees), int(estimate.degrees)
    return found


def _metric_of(comparison: ComparisonConfig, plan: Plan) -> tuple[Metric, int | None]:
    """What will be compared, and the number of images that it is measured on."""
    sizes = {split.name: split.examples for split in plan.splits}
    name = comparison.metric or ("test_accuracy" if sizes.get("test") else "val_accuracy")
    return Metric(name), sizes.get(name.partition("_")[0])


def _resolved(spread: float, seeds: int, level: float) -> float:
    """The smallest margin that ``seeds`` show with the usual power if there is no difference."""
    low, high = 0.0, _MOST_LARGE
    for _ in range(40):
        middle = (low + high) / 2
        enough = float(power_to_show_equivalence(np.asarray(seeds), np.asarray(middle), level)) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high * spread


def describe_seeds(found: SeedsForecast, *, cells: int, seconds: Interval) -> list[str]:
    """The same in lines for people; ``cells`` and ``seconds`` are those of one seed of every recipe."""
    metric = Metric(found.metric)
    margin = metric.difference(found.margin, sign=False)
    in_rounds = len(found.looks) > 1
    if found.spread is None or found.needed is None:
        first = found.looks[0] if in_rounds else FIRST_LOOK
        asked = "the first look" if in_rounds else f"a pilot (seeds={first})"
        lines = [
            f"seeds      not known: below {OUTPUTS}/ no sweep has asked this of these data and models",
            f"           {asked} would tell: {_cost(first, cells, seconds)}",
        ]
    else:
        low, expected, high = (_at_look(seeds) if in_rounds else seeds for seeds in found.needed)
        lines = [
            f"seeds      {_number(low)} to {_number(high)} a recipe, {_number(expected)} by the spread as measured, to"
            f" show a margin of {margin}",
            f"           if the recipes are equal (power {POWER:.0%}; {found.spread.recipe}:"
            f" {metric.difference(found.spread.expected, sign=False)} in {pluralize(found.spread.pairs, 'pair')} of"
            f" {pluralize(len(found.spread.sweeps), 'earlier sweep')})",
        ]
        if not math.isinf(expected):
            lines.append(f"           {_number(expected)} seeds are {_cost(round(expected), cells, seconds)}")
    if found.resolution is not None:
        split = found.metric.partition("_")[0]
        image = f"one of {found.images:,} {split} images is {metric.difference(found.resolution, sign=False)}"
        finest = ": no smaller margin can be shown" if found.margin <= found.resolution else ""
        lines.append(f"margin     {image}{finest}")
    if found.margins:
        each = ", ".join(f"{metric.difference(size, sign=False)} with {seeds}" for seeds, size in found.margins.items())
        lines.append(f"           likely to be shown if the recipes are equal: {each} seeds")
    return lines


def described_seeds(found: SeedsForecast) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    return dataclasses.asdict(found)


def _at_look(seeds: float) -> float:
    """The first planned look with at least so many seeds."""
    if math.isinf(seeds):
        return seeds
    return next(look for look in plan_looks(2 * max(FIRST_LOOK, math.ceil(seeds))) if look >= seeds)


def _number(seeds: float) -> str:
    return f"over {MOST_RUNS:,}" if math.isinf(seeds) else f"{seeds:,.0f}"


def _cost(seeds: int, cells: int, seconds: Interval) -> str:
    whole = Interval(expected=seeds * seconds.expected, low=seeds * seconds.low, high=seeds * seconds.high)
    return f"{pluralize(seeds * cells, 'run')}, {seconds_range(whole)}"
