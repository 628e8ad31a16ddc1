"""The forecast of a run from its plan and the costs of its parts, with a range."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.forecast.costs import Costs, Method
from runner.training.checkpointing.save_schedule import SHARE

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.planning.plan import Plan

# How far off single forecasts were (docs/results/2026-11-23-plan.md); the spread of the timed updates comes on top.
TIME_MARGIN: dict[Method, float] = {"probe": 0.15, "estimate": 1.0, "elsewhere": 1.0}
MEMORY_MARGIN: dict[Method, float] = {"probe": 0.10, "estimate": 1.0, "elsewhere": 1.0}
SCALED_MARGIN = ((0.05, 1.0), (0.0, 3.0))
"""Of the time of a probe by the share of the run's images that its updates had, at least.

By shares of 0.05 to 0.5 forecasts of an update were 0.5 to 1.7 times those of whole ones, by 0.02 0.2 to 2.3 times
(small_cnn and mlp, one thread of a busy AMD EPYC, 2026-11-30).
"""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A forecast figure and the range in which it should lie."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Where the wall time of a run goes, as ``seconds`` in ``run.json`` counts it."""

    training: float
    evaluation: float
    """Of the validation split, over all evaluations."""
    saving: float
    """Checkpoints, and keeping the best weights at hand."""
    accounting: float
    """Of a private run: epsilon epoch by epoch, and the ledger."""
    tracking: float
    """What the tracker, which works beside all this, takes of it."""
    rest: float
    """Start, first update, records and the test."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.evaluation + self.saving + self.accounting + self.tracking + self.rest


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take."""

    method: Method
    seconds: Interval
    parts: Seconds
    step_seconds: float
    """Mean of one update."""
    peak_bytes: Interval
    """Largest memory of a process, as ``memory.peak_bytes`` in ``run.json`` counts it."""
    price: Interval | None
    """In the currency of ``hardware.price_per_hour``; None without it."""


def forecast(plan: Plan, data: ImageData, costs: Costs, *, price_per_hour: float | None) -> Forecast:
    """What ``plan`` will take with pieces that cost ``costs``.  Early stopping would end it sooner."""
    step = statistics.fmean(costs.step_seconds)
    parts = _seconds(plan, data, costs, step)
    share = 1.0 if costs.images_timed is None else costs.images_timed / plan.semantic.logical_batch
    scaled = 0.0 if share == 1.0 else next(margin for least, margin in SCALED_MARGIN if share >= least)
    seconds = _range(parts.total, max(TIME_MARGIN[costs.method], scaled, _spread(costs.step_seconds)))
    memory_margin = MEMORY_MARGIN[costs.method if costs.same_batch else "estimate"]
    return Forecast(
        method=costs.method,
        seconds=seconds,
        parts=parts,
        step_seconds=step,
        peak_bytes=_range(float(costs.peak_bytes), memory_margin),
        price=None if price_per_hour is None else _scaled(seconds, price_per_hour / 3600),
    )


def _seconds(plan: Plan, data: ImageData, costs: Costs, step: float) -> Seconds:
    semantic, performance = plan.semantic, plan.performance
    epochs = plan.epoch_of(semantic.steps - 1)
    steps_per_epoch = semantic.steps / epochs
    records = semantic.steps // performance.log_every + epochs
    evaluations = 0 if data.val is None else math.ceil(epochs / semantic.eval_every)
    once = 0.0 if data.val is None else len(data.val) * costs.evaluation_seconds_per_example + costs.record_seconds
    training, evaluation = semantic.steps * step, evaluations * once
    per_epoch = steps_per_epoch * step + evaluation / epochs
    saving = _saving(plan, costs, epochs=epochs, epoch_seconds=per_epoch)
    accounting = 0.0 if costs.accounts is None else costs.accounts.seconds(epochs=epochs, evaluations=evaluations)
    test = 0.0
    if data.test is not None:
        test = costs.test_set_up_seconds + len(data.test) * costs.evaluation_seconds_per_example
        if semantic.test_checkpoint == "best":
            test += costs.load_seconds
    rest = costs.start_seconds + costs.first_step_seconds + records * costs.record_seconds + test
    found = Seconds(
        training=training, evaluation=evaluation, saving=saving, accounting=accounting, tracking=0.0, rest=rest
    )
    if costs.tracking is None:
        return found
    return dataclasses.replace(found, tracking=costs.tracking.seconds(found.total, records + evaluations))


def _saving(plan: Plan, costs: Costs, *, epochs: int, epoch_seconds: float) -> float:
    """Seconds of all checkpoints, by the rule that ``runner.training.checkpointing.save_schedule`` follows.

    How often an evaluation is the best so far is not known; half of them is assumed.
    """
    best = plan.semantic.test_checkpoint == "best"
    holds = 0.5 * epochs * costs.hold_seconds if best else 0.0
    last = costs.save_seconds * (1.5 if best else 1.0)  # the best one before it may still have to be written
    if plan.performance.save_every is not None:
        return costs.save_seconds * math.ceil(epochs / plan.performance.save_every) + last
    return min(SHARE * epochs * epoch_seconds, epochs * costs.save_seconds) + holds + last


def _spread(samples: tuple[float, ...]) -> float:
    """Relative standard error of the mean update."""
    if len(samples) < 2:
        return 0.0
    return 2 * statistics.stdev(samples) / math.sqrt(len(samples)) / statistics.fmean(samples)


def _range(expected: float, margin: float) -> Interval:
    return Interval(expected=expected, low=expected / (1 + margin), high=expected * (1 + margin))


def _scaled(range_: Interval, factor: float) -> Interval:
    return Interval(expected=range_.expected * factor, low=range_.low * factor, high=range_.high * factor)
