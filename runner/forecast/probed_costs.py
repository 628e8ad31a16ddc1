"""What the pieces of a run cost, by a rehearsal on the run's own data.

What is measured are seconds and bytes; the weights, the figures of the evaluation and, under DP, the secret key are
thrown away, so it spends no privacy.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from runner.autotune.rehearsal import FEW, Rehearsal, first_look
from runner.autotune.resident_pages import unread_bytes
from runner.config.rules.batches import affordable
from runner.data.feature_feed import AnyFeed
from runner.forecast.analytic_costs import trained_bytes
from runner.forecast.costs import Costs
from runner.forecast.operation_counts import measure_model
from runner.records.console import SilentConsole
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.records.recorder import Recorder
from runner.training.distributed.agreement import decide_on_main
from runner.training.model import build_model
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.planning.plan import Plan
    from runner.training.distributed.world import World

SECONDS = 1.0
"""After which no further update begins."""
LEAST, MOST = 4, 200
"""Updates to time, where the run has as many."""
_WARM = 2
"""Updates after which each takes what the later ones will."""
_EVALUATION_SECONDS = 0.4
_LIGHT = 20_000
"""Numbers in the images of an update up to which no model that trains here takes long."""
_UPDATES = 4
"""That must fit into half of the plan's seconds: the first, one that warms up, and two to time."""
_LEAST_SHARE = 0.25
"""Of an image's mean share in an update: what another image takes at least."""
_SET_UP_SHARE = 0.25
"""Of the plan's seconds, for a choice that is made while the parts are built."""
_SHARE = 0.5
"""Of the seconds for updates; evaluations and checkpoints have the rest."""


def probe_costs(plan: Plan, data: ImageData, world: World, folder: Path) -> Costs:
    """Measure what the pieces of ``plan`` cost; every process of ``world`` takes part and gets its own figures.

    Checkpoints are written to ``folder``, which the caller removes: a process of several is ended by a signal at once.

    Raises:
        RequestError: the parts cannot be had as asked.
        RunError: there is no memory for one example.
        NonFiniteGradient: the first updates of the run would end it.
    """
    image_seconds = decide_on_main(world, lambda: _image_seconds(plan))
    baseline = _held(world.device)
    short = _shortened(plan, image_seconds)
    with torch_settings(plan):
        costs = _probe(short, data, world, folder, baseline, image_seconds)
    return costs if short is plan else _scaled(costs, short, plan, image_seconds)


def _image_seconds(plan: Plan) -> float:
    """Seconds that an image of an update takes about, by a few random ones; 0 where no update can take long."""
    semantic = plan.semantic
    numbers = semantic.logical_batch * semantic.data.channels * semantic.data.image_size**2
    if numbers <= _LIGHT:
        return 0.0
    return first_look(plan.uncompiled())[0]


def _shortened(plan: Plan, image_seconds: float) -> Plan:
    """``plan``, or where its updates would take too long, one of fewer micro-batches, or of smaller ones."""
    semantic, performance = plan.semantic, plan.performance
    share = performance.batch_size * performance.accumulation_steps
    seconds = _SHARE * performance.probe_seconds / _UPDATES
    images = affordable(share, seconds_each=image_seconds, seconds=seconds, least=min(share, FEW))
    if images == share:
        return plan
    batch = min(performance.batch_size, images)
    accumulation = images // batch
    logical = batch * accumulation * performance.processes
    if (privacy := semantic.privacy) is not None:
        rate = privacy.sample_rate * logical / semantic.logical_batch
        plan = plan.evolve({"semantic.privacy.sample_rate": rate})
    return plan.evolve(
        {
            "semantic.logical_batch": logical,
            "performance.batch_size": batch,
            "performance.accumulation_steps": accumulation,
        }
    )


def _scaled(costs: Costs, short: Plan, plan: Plan, image_seconds: float) -> Costs:
    """``costs`` of ``short`` as those of ``plan``: more images an update, and in a micro-batch.

    What an image more takes lies between the updates that were timed and the few images of ``image_seconds`` each; at
    least a quarter of the mean is assumed, and at most the mean.
    """
    timed, whole = (each.semantic.logical_batch / plan.performance.processes for each in (short, plan))
    few = min(FEW, plan.performance.batch_size)

    def scaled(seconds: float) -> float:
        mean = seconds / timed
        more = mean if timed <= few else (seconds - few * image_seconds) / (timed - few)
        return seconds + (whole - timed) * min(mean, max(_LEAST_SHARE * mean, more))

    larger = plan.performance.batch_size - short.performance.batch_size
    return dataclasses.replace(
        costs,
        step_seconds=tuple(scaled(seconds) for seconds in costs.step_seconds),
        peak_bytes=costs.peak_bytes + larger * trained_bytes(plan, costs.model),
        images_timed=short.semantic.logical_batch,
        same_batch=larger == 0,
    )


def _probe(plan: Plan, data: ImageData, world: World, folder: Path, baseline: int, image_seconds: float) -> Costs:
    limit = plan.performance.probe_seconds
    # a way to per-example gradients that is chosen for a plan alone leaves most of the time to the updates
    quickly = plan.evolve({"performance.probe_seconds": _SET_UP_SHARE * limit})
    rehearsal = Rehearsal(quickly, data, world, folder=folder)
    val = None if data.val is None else rehearsal.feed(data.val)
    reset_peak_memory(world.device)
    first, samples = _updates(rehearsal, limit)
    recorder = Recorder(folder, [], SilentConsole())
    record = rehearsal.timed(lambda: recorder.write("train", step=1, epoch=1.0, loss=0.0, accuracy=0.0, lr=0.0))
    per_example = (
        0.0 if val is None or data.val is None else _evaluation(rehearsal, val, len(data.val), image_seconds, limit)
    )
    hold, save, load = _saving(rehearsal)
    tests: list[AnyFeed] = []
    test_set_up = 0.0
    if data.test is not None:
        test = data.test
        test_set_up = rehearsal.timed(lambda: tests.append(rehearsal.feed(test)))
        found = _evaluation(rehearsal, tests[0], len(test), image_seconds, limit)
        per_example = per_example or found
    recorder.sync()
    peak = peak_memory_bytes(world.device)
    if world.device.type == "cpu":
        peak += unread_bytes(data.train, rehearsal.parts.feed, (len(samples) + 1) * plan.semantic.logical_batch)

    model = build_model(plan)
    shape: tuple[int, ...] = plan.semantic.data.image_shape
    kept: dict[str, Any] = {}
    if (features := rehearsal.parts.features) is not None:
        features.hand_on(model)
        shape = features.shape
        kept = {
            "features": features.layers,
            "feature_seconds": sum(split.seconds for split in features.kept.values()),
            "feature_bytes": sum(split.nbytes for split in features.kept.values()),
        }
        if world.device.type == "cpu":
            peak += kept["feature_bytes"]
    return Costs(
        method="probe",
        model=measure_model(model, image_shape=shape),
        set_up_seconds=rehearsal.set_up_seconds,
        start_seconds=0.0,
        first_step_seconds=max(0.0, first - float(np.median(samples))),
        step_seconds=tuple(samples),
        record_seconds=record,
        evaluation_seconds_per_example=per_example,
        hold_seconds=hold,
        save_seconds=save,
        load_seconds=load,
        test_set_up_seconds=test_set_up,
        peak_bytes=peak,
        baseline_bytes=baseline,
        grad_sample=_gradients(rehearsal.plan),
        **kept,
    )


def _updates(rehearsal: Rehearsal, limit: float) -> tuple[float, list[float]]:
    """Seconds of the first update and of those that follow once they take what later ones will.

    ``limit`` are the seconds of the plan's measurements.
    """
    samples: list[float] = []
    first, begun = rehearsal.update(), time.perf_counter()

    def goes_on() -> bool:
        spent = time.perf_counter() - begun
        late = bool(samples) and spent > _SHARE * limit
        enough = late or (len(samples) >= LEAST and spent > SECONDS)
        return bool(rehearsal.parts.world.broadcast(len(samples) < MOST and not enough))

    while goes_on():
        seconds = rehearsal.update()
        if rehearsal.done > _WARM:
            samples.append(seconds)
    rehearsal.raise_if_diverged()
    return first, samples


def _evaluation(rehearsal: Rehearsal, feed: AnyFeed, examples: int, image_seconds: float, limit: float) -> float:
    """Seconds of evaluating one example, on as many as take a moment; training takes ``image_seconds`` for one."""
    world = rehearsal.parts.world
    batch = rehearsal.parts.sizes["evaluation"] * world.size
    # twice for each of two sets in the plan's other half, were they as slow as training
    seconds = (1 - _SHARE) * limit / 4
    few = affordable(min(examples, batch), seconds_each=image_seconds, seconds=seconds)
    rehearsal.evaluate(feed, few)
    once = rehearsal.evaluate(feed, few)
    most = max(1, int(_EVALUATION_SECONDS / max(once, 1e-6))) * few
    many = int(world.broadcast(min(examples, most)))
    return (rehearsal.evaluate(feed, many) if many > few else once) / max(many, few)


def _saving(rehearsal: Rehearsal) -> tuple[float, float, float]:
    """Seconds of holding the best weights back, of a checkpoint and of reading it; 0 in every process but the first."""
    if not rehearsal.parts.world.is_main:
        return 0.0, 0.0, 0.0
    snapshot = rehearsal.snapshot(1, best=1)
    hold = rehearsal.hold(snapshot)
    # what was held is the same checkpoint: it is written once
    save = rehearsal.save(dataclasses.replace(snapshot, step=2, best=2))
    return hold, save, rehearsal.load("last")


def _gradients(plan: Plan) -> str | None:
    performance = plan.performance
    return None if performance.grad_sample is None else f"{performance.grad_sample} ({performance.grad_sample_reason})"


def _held(device: torch.device) -> int:
    """Bytes held now, not at their peak."""
    reset_peak_memory(device)
    return peak_memory_bytes(device)
