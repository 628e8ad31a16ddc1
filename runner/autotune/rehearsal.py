"""A rehearsal of a run before it: the run's own parts do its first updates, an evaluation and a checkpoint.

Each piece is timed, and nothing is kept.  On made-up images a rehearsal touches no data, no record, no ledger and no
random state of the run: images are random, a private plan draws from a key that is thrown away, and the learning rate
is too small to move a weight.  So what is learnt is a function of the plan and the machine alone, and a choice made by
it costs no privacy.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from runner.data.feature_feed import AnyFeed
from runner.data.images import ImageData, ImageSet
from runner.models.memory_format import convolves
from runner.planning.plan import Plan
from runner.planning.planned_images import planned_images
from runner.privacy.independence.mixing_check import fixed_randomness
from runner.privacy.mechanism.key import SecretKey
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.checkpointing.save_schedule import Saving, Snapshot
from runner.training.distributed.world import SingleProcess, World, torch_device
from runner.training.eval_weights import weights_to_save
from runner.training.evaluate import evaluate, share_buffers
from runner.training.parts import build_parts
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings

FEW = 4
"""Images by which it is judged how long an update takes."""
_SEED = 20_261
_POOL = 256
"""Images that are made; a larger training set repeats them."""
_LOGICAL_BATCHES = 4
"""Most logical batches in the made-up training set: the rest of a large one would only take time to prepare."""
_SMALL_RATE = 1e-9


class Rehearsal:
    """The parts of a plan, whose pieces are done one at a time; each answers with the seconds that it took."""

    def __init__(
        self,
        plan: Plan,
        data: ImageData,
        world: World,
        *,
        folder: Path | None = None,
        key: SecretKey | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``folder`` takes checkpoints, ``key`` is that of a private plan (None: a new one), ``clock`` gives seconds.

        Raises:
            RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
        """
        self._clock = clock
        self._device = world.device
        self._data = data
        self._folder = folder
        started = self._now()
        self.parts = build_parts(plan, data, world, key=key, rehearsed=True)
        self.set_up_seconds = self._now() - started
        """What building the parts took."""
        self.plan = self.parts.plan
        """The plan, with the way to per-example gradients decided."""
        self.done = 0
        """Updates so far."""
        self._step = TrainStep(self.parts)
        self._saving = None if folder is None else Saving(folder, self.plan, world)

    def update(self) -> float:
        """Do the next update; a run of few updates is rehearsed on the same few again.

        Raises:
            RunError: there is no memory for one example.
        """
        number = self.done % self.plan.semantic.steps
        self.done += 1
        return self.timed(lambda: self._step.run(number))

    def feed(self, images: ImageSet) -> AnyFeed:
        """``images``, a split of the data, for ``evaluate``."""
        return self.parts.plain_feed(self._data, images)

    def evaluate(self, feed: AnyFeed, count: int) -> float:
        """Evaluate the first ``count`` images of ``feed``."""
        parts = self.parts

        def evaluation() -> None:
            share_buffers(parts.model, parts.world)
            evaluate(parts, feed, count)

        return self.timed(evaluation)

    def snapshot(self, step: int, *, best: int) -> Snapshot:
        """What a checkpoint after ``step`` updates holds; the best was that after ``best``."""
        weights, raw_weights = weights_to_save(self.parts)
        state = {"raw_weights": raw_weights, "optimizer": self.parts.optimizer.state_dict()}
        return Snapshot(step=step, best=best, weights=weights, state=state)

    def hold(self, snapshot: Snapshot) -> float:
        """Keep the best weights in memory, until they are saved."""
        assert self._saving is not None
        saving = self._saving
        return self.timed(lambda: saving.hold(snapshot))

    def save(self, snapshot: Snapshot) -> float:
        """Write a checkpoint."""
        assert self._saving is not None
        saving = self._saving
        return self.timed(lambda: saving.save(snapshot))

    def load(self, name: str) -> float:
        """Read the weights of the checkpoint ``name`` back."""
        assert self._folder is not None
        path = self._folder / name
        return self.timed(lambda: self.parts.model.load_state_dict(load_checkpoint(path).weights))

    def raise_if_diverged(self) -> None:
        """Raise what would have ended the run after these updates.

        Raises:
            NonFiniteGradient: a gradient was not finite.
        """
        self.parts.precision.raise_if_stopped(self.done - 1)
        self._step.running_metrics.read()

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds that ``work`` takes, the device's included."""
        started = self._now()
        work()
        return self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return self._clock()

    @property
    def fits(self) -> bool:
        """Whether the memory has sufficed without smaller micro-batches."""
        return not self.parts.sizes.halvings

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and an optimizer that keeps two numbers a weight."""
        return 4 * sum(parameter.nbytes for parameter in self.parts.parameters)


@contextlib.contextmanager
def rehearsed_alone(
    plan: Plan,
    data: ImageData | None = None,
    *,
    folder: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Rehearsal]:
    """A rehearsal in this process alone, without effect, with torch's switches as the plan has them inside.

    On ``data``, which a private plan samples as one process would; or on made-up images.

    Raises:
        RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
    """
    plan = without_effect(plan)
    if data is None:
        examples = min(plan.semantic.data.examples, _LOGICAL_BATCHES * plan.semantic.logical_batch)
        plan = plan.evolve({"semantic.data.examples": examples})
        data = _random_data(plan)
    key = None
    if plan.semantic.privacy is not None:
        key = SecretKey.from_unsafe_seed(_SEED)
        rate = min(1.0, plan.semantic.logical_batch / len(data.train))
        plan = plan.evolve({"semantic.privacy.sample_rate": rate})
    device = torch_device(plan.performance.device)
    with fixed_randomness(device), torch_settings(plan):
        yield Rehearsal(plan, data, SingleProcess(device), folder=folder, key=key, clock=clock)


def first_look(plan: Plan, *, clock: Callable[[], float] = time.perf_counter) -> tuple[float, bool]:
    """Seconds that an image takes in an update with few; and whether the memory format matters to the model."""
    few = min(plan.performance.batch_size, FEW)
    with rehearsed_alone(one_share(plan, few, 1), clock=clock) as rehearsal:
        rehearsal.update()
        return rehearsal.update() / few, convolves(rehearsal.parts.model)


def give_back_memory() -> None:
    """Hand back what ended probes have left in reference cycles and allocators, so that no run shows their peak."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc, not musl
        libc.malloc_trim(0)


def one_share(plan: Plan, batch_size: int, accumulation: int) -> Plan:
    """``plan`` for one process whose share of the logical batch is ``accumulation`` micro-batches of ``batch_size``."""
    return plan.evolve(
        {
            "semantic.logical_batch": batch_size * accumulation,
            "performance.processes": 1,
            "performance.batch_size": batch_size,
            "performance.accumulation_steps": accumulation,
        }
    )


def without_effect(plan: Plan) -> Plan:
    """``plan`` with a learning rate that leaves the weights where they are, and none that would have to be fetched."""
    return plan.evolve({"semantic.model.weights": None, "semantic.optimizer.lr": _SMALL_RATE})


def _random_data(plan: Plan) -> ImageData:
    data = plan.semantic.data
    # random resized crops are cut from images with a margin
    side = data.image_size * 5 // 4 if data.augment.random_resized_crop else data.image_size
    generator = np.random.default_rng(_SEED)
    pool = min(data.examples, _POOL)
    train = ImageSet(
        images=generator.integers(0, 256, (pool, side, side, data.channels), dtype=np.uint8),
        labels=generator.integers(0, data.num_classes, data.examples),
        rows=np.arange(data.examples) % pool,
        names=None,
    )
    return planned_images(plan, data.name, train)
