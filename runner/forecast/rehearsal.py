"""A short rehearsal of a run: its own first updates, an evaluation and a checkpoint, each timed, and nothing kept.

The parts are the run's, on its own data.  What it measures are seconds and bytes; the weights, the figures of the
evaluation and, under DP, the secret key are thrown away, so a rehearsal spends no privacy.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from runner.autotune.probe import one_share, stepping
from runner.autotune.unread_pixels import unread_bytes
from runner.config.rules.batches import affordable
from runner.data.feed import Feed
from runner.forecast.analytic_costs import trained_bytes
from runner.forecast.costs import Costs
from runner.forecast.operation_counts import measure_model
from runner.records.console import SilentConsole
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.records.recorder import Recorder
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.checkpointing.save_schedule import Saving, Snapshot
from runner.training.eval_weights import weights_to_save
from runner.training.evaluate import evaluate, share_buffers
from runner.training.model import build_model
from runner.training.parts import Parts, build_parts
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.plan.plan import Plan
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
_FEW = 4
"""Images by which it is judged how long an update takes."""
_UPDATES = 4
"""That must fit into half of the plan's seconds: the first, one that warms up, and two to time."""
_LEAST_SHARE = 0.25
"""Of an image's mean share in an update: what another image takes at least."""
_SET_UP_SHARE = 0.25
"""Of the plan's seconds, for a choice that is made while the parts are built."""
_SHARE = 0.5
"""Of the seconds for updates; evaluations and checkpoints have the rest."""


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """Seconds of what this process does, its device included."""

    device: torch.device

    def __call__(self, work: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def rehearse(plan: Plan, data: ImageData, world: World, folder: Path) -> Costs:
    """Measure what the pieces of ``plan`` cost; every process of ``world`` takes part and gets its own figures.

    Checkpoints are written to ``folder``, which the caller removes: a process of several is ended by a signal at once.

    Raises:
        RequestError: the parts cannot be had as asked.
        RunError: there is no memory for one example.
        NonFiniteGradient: the first updates of the run would end it.
    """
    clock = _Clock(device=world.device)
    image_seconds = world.broadcast(_image_seconds(plan) if world.is_main else 0.0)
    baseline = _held(world.device)
    short = _shortened(plan, image_seconds)
    with torch_settings(plan):
        costs = _rehearse(short, data, world, clock, folder, baseline, image_seconds)
    return costs if short is plan else _scaled(costs, short, plan, image_seconds)


def _image_seconds(plan: Plan) -> float:
    """Seconds that an image of an update takes about, by a few random ones; 0 where no update can take long."""
    semantic = plan.semantic
    numbers = semantic.logical_batch * semantic.data.channels * semantic.data.image_size**2
    if numbers <= _LIGHT:
        return 0.0
    few = min(_FEW, plan.performance.batch_size)
    with stepping(one_share(plan.uncompiled(), few, 1)) as stepper:
        stepper.step()
        return stepper.step() / few


def _shortened(plan: Plan, image_seconds: float) -> Plan:
    """``plan``, or where its updates would take too long, one of fewer micro-batches, or of smaller ones."""
    semantic, performance = plan.semantic, plan.performance
    share = performance.batch_size * performance.accumulation_steps
    seconds = _SHARE * performance.probe_seconds / _UPDATES
    images = affordable(share, seconds_each=image_seconds, seconds=seconds, least=min(share, _FEW))
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
    few = min(_FEW, plan.performance.batch_size)

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


def _rehearse(
    plan: Plan, data: ImageData, world: World, clock: _Clock, folder: Path, baseline: int, image_seconds: float
) -> Costs:
    made: list[Parts] = []
    limit = plan.performance.probe_seconds
    # a way to per-example gradients that is chosen for a plan alone leaves most of the time to the updates
    quickly = plan.evolve({"performance.probe_seconds": _SET_UP_SHARE * limit})
    set_up = clock(lambda: made.append(build_parts(quickly, data, world)))
    (parts,) = made
    val = None if data.val is None else parts.plain_feed(data, data.val)
    reset_peak_memory(world.device)
    first, samples = _steps(parts, clock, limit)
    recorder = Recorder(folder, [], SilentConsole())
    record = clock(lambda: recorder.write("train", step=1, epoch=1.0, loss=0.0, accuracy=0.0, lr=0.0))
    per_example = (
        0.0 if val is None or data.val is None else _evaluation(parts, clock, val, len(data.val), image_seconds, limit)
    )
    hold, save, load = _saving(parts, clock, folder)
    tests: list[Feed] = []
    test_set_up = 0.0
    if data.test is not None:
        test = data.test
        test_set_up = clock(lambda: tests.append(parts.plain_feed(data, test)))
        found = _evaluation(parts, clock, tests[0], len(test), image_seconds, limit)
        per_example = per_example or found
    recorder.sync()
    peak = peak_memory_bytes(world.device)
    if world.device.type == "cpu":
        peak += unread_bytes(data.train, parts.feed, (len(samples) + 1) * plan.semantic.logical_batch)

    image_shape = plan.semantic.data.image_shape
    return Costs(
        method="probe",
        model=measure_model(build_model(plan), image_shape=image_shape),
        set_up_seconds=set_up,
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
        grad_sample=_gradients(parts.plan),
    )


def _steps(parts: Parts, clock: _Clock, limit: float) -> tuple[float, list[float]]:
    """Seconds of the first update and of those that follow once they take what later ones will.

    ``limit`` are the seconds of the plan's measurements.
    """
    step = TrainStep(parts)
    last = parts.plan.semantic.steps
    samples: list[float] = []
    first = clock(lambda: step.run(0))
    done, begun = 1, time.perf_counter()

    def goes_on() -> bool:
        spent = time.perf_counter() - begun
        late = bool(samples) and spent > _SHARE * limit
        enough = late or (len(samples) >= LEAST and spent > SECONDS)
        # a run of few updates is rehearsed on the same few again
        return bool(parts.world.broadcast(len(samples) < MOST and not enough))

    while goes_on():
        number = done % last

        def run(number: int = number) -> None:
            step.run(number)

        seconds = clock(run)
        if done >= _WARM:
            samples.append(seconds)
        done += 1
    parts.precision.raise_if_stopped(done - 1)
    step.running_metrics.read()
    return first, samples


def _evaluation(parts: Parts, clock: _Clock, feed: Feed, examples: int, image_seconds: float, limit: float) -> float:
    """Seconds of evaluating one example, on as many as take a moment; training takes ``image_seconds`` for one."""
    batch = parts.sizes["evaluation"] * parts.world.size
    # twice for each of two sets in the plan's other half, were they as slow as training
    seconds = (1 - _SHARE) * limit / 4
    few = affordable(min(examples, batch), seconds_each=image_seconds, seconds=seconds)

    def evaluation(count: int) -> None:
        share_buffers(parts.model, parts.world)
        evaluate(parts.model, feed, count, sizes=parts.sizes, precision=parts.precision, world=parts.world)

    def over(count: int) -> float:
        return clock(lambda: evaluation(count))

    over(few)
    once = over(few)
    most = max(1, int(_EVALUATION_SECONDS / max(once, 1e-6))) * few
    many = int(parts.world.broadcast(min(examples, most)))
    return (over(many) if many > few else once) / max(many, few)


def _saving(parts: Parts, clock: _Clock, folder: Path) -> tuple[float, float, float]:
    """Seconds of holding the best weights back, of a checkpoint and of reading it; 0 in every process but the first."""
    if not parts.world.is_main:
        return 0.0, 0.0, 0.0
    weights, raw_weights = weights_to_save(parts)
    state = {"raw_weights": raw_weights, "optimizer": parts.optimizer.state_dict()}
    snapshot = Snapshot(step=1, best=1, weights=weights, state=state)
    saving = Saving(folder, parts.plan, parts.world)
    hold = clock(lambda: saving.hold(snapshot))
    # what was held is the same checkpoint: it is written once
    later = Snapshot(step=2, best=2, weights=weights, state=state)
    save = clock(lambda: saving.save(later))
    load = clock(lambda: load_checkpoint(folder / "last"))
    return hold, save, load


def _gradients(plan: Plan) -> str | None:
    performance = plan.performance
    return None if performance.grad_sample is None else f"{performance.grad_sample} ({performance.grad_sample_reason})"


def _held(device: torch.device) -> int:
    """Bytes held now, not at their peak."""
    reset_peak_memory(device)
    return peak_memory_bytes(device)
