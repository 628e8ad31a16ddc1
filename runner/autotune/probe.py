"""A few real steps of a plan on made-up images: what an update costs in time and memory, before the run.

It touches no data, no record, no ledger and no random state of the run: images are random, a private plan draws from
a key that is thrown away, and the learning rate is too small to move a weight.  So what is learnt is a function of the
plan and the machine alone, and a choice made by it costs no privacy.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from runner.data.images import ImageData, ImageSet
from runner.models.memory_format import convolves
from runner.plan.plan import Plan
from runner.privacy.independence.mixing_check import fixed_randomness
from runner.privacy.mechanism.key import SecretKey
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.parts import build_parts
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings

_SEED = 20_261
_POOL = 256
"""Images that are made; a larger training set repeats them."""
_LOGICAL_BATCHES = 4
"""Most logical batches in the made-up training set: the rest of a large one would only take time to prepare."""
_SMALL_RATE = 1e-9


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What an update costs one process."""

    seconds: float
    """Per update: the median of those timed."""
    samples: tuple[float, ...]
    """Seconds of each timed update; with more than two micro-batches, what their parts add up to."""
    first_seconds: float
    """The first update, which pays once for what is set up late."""
    before_bytes: int
    """Memory that the process held before the parts were built (on CUDA: device memory)."""
    peak_bytes: int
    """Largest memory that it held since; on a CPU the whole process's, as in ``run.json``."""
    fits: bool
    """Whether the memory sufficed without smaller micro-batches."""


def measure_steps(plan: Plan, *, seconds: float = 1.0, least: int = 3, most: int = 20) -> StepCost:
    """Measure updates of ``plan`` in this process, on the plan's device.

    Of a plan for several processes it is one process's share, without the communication.  Accumulation is measured
    with one and with two micro-batches and extrapolated, so that a large effective batch takes no longer.

    Args:
        plan: what would be run.
        seconds: after which no further update begins, beyond ``least``.
        least: updates to time.
        most: updates to time at most.

    Raises:
        RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
        RunError: there is no memory for one example.
    """
    accumulation = plan.performance.accumulation_steps
    first = _measure(plan, min(accumulation, 2), seconds=seconds, least=least, most=most)
    if accumulation <= 2:
        return first
    one = _measure(plan, 1, seconds=seconds, least=least, most=most)
    # what each further micro-batch adds
    samples = tuple(
        two + (accumulation - 2) * max(two - single, 0.0)
        for single, two in zip(sorted(one.samples), sorted(first.samples), strict=False)
    )
    return dataclasses.replace(first, samples=samples, seconds=statistics.median(samples))


@contextlib.contextmanager
def stepping(plan: Plan, *, clock: Callable[[], float] = time.perf_counter) -> Iterator[Stepper]:
    """The parts of ``plan`` on made-up images, to be stepped by hand; torch's switches are the plan's inside."""
    device = torch_device(plan.performance.device)
    with fixed_randomness(device), torch_settings(plan):
        yield Stepper(plan, device, clock)


class Stepper:
    """Takes updates of one plan and times each."""

    def __init__(self, plan: Plan, device: torch.device, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds."""
        private = plan.semantic.privacy is not None
        plan = _made_up(plan)
        self._parts = build_parts(
            plan,
            _random_data(plan),
            SingleProcess(device),
            key=SecretKey.from_unsafe_seed(_SEED) if private else None,
        )
        self.plan = self._parts.plan
        """The plan that is stepped: with made-up data, and with the way to per-example gradients decided."""
        self._step = TrainStep(self._parts)
        self._device = device
        self._clock = clock
        self._done = 0

    def step(self) -> float:
        """Do the next update and wait for the device; seconds."""
        start = self._clock()
        self._step.run(self._done)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        self._done += 1
        return self._clock() - start

    @property
    def fits(self) -> bool:
        """Whether the memory has sufficed without smaller micro-batches."""
        return not self._parts.sizes.halvings

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and an optimizer that keeps two numbers a weight."""
        return 4 * sum(parameter.nbytes for parameter in self._parts.parameters)

    @property
    def convolves(self) -> bool:
        """Whether the model has weights to which the memory format matters."""
        return convolves(self._parts.model)


def give_back_memory() -> None:
    """Hand back what ended probes have left in reference cycles and allocators, so that no run shows their peak."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc, not musl
        libc.malloc_trim(0)


def _measure(plan: Plan, accumulation: int, *, seconds: float, least: int, most: int) -> StepCost:
    device = torch_device(plan.performance.device)
    reset_peak_memory(device)
    before = peak_memory_bytes(device)
    with stepping(one_share(plan, plan.performance.batch_size, accumulation)) as stepper:
        first_seconds = stepper.step()
        samples: list[float] = []
        start = time.perf_counter()
        while len(samples) < most and (len(samples) < least or time.perf_counter() - start < seconds):
            samples.append(stepper.step())
        return StepCost(
            seconds=statistics.median(samples),
            samples=tuple(samples),
            first_seconds=first_seconds,
            before_bytes=before,
            peak_bytes=peak_memory_bytes(device),
            fits=stepper.fits,
        )


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


def _made_up(plan: Plan) -> Plan:
    """``plan`` with random data, whose labels could drive the weights to numbers that are not finite."""
    plan = without_effect(plan)
    semantic = plan.semantic
    examples = min(semantic.data.examples, _LOGICAL_BATCHES * semantic.logical_batch)
    if semantic.privacy is not None:
        plan = plan.evolve({"semantic.privacy.sample_rate": min(1.0, semantic.logical_batch / examples)})
    return plan.evolve({"semantic.data.examples": examples})


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
    return ImageData(
        name=data.name,
        classes=plan.classes,
        train=train,
        val=None,
        test=None,
        mean=data.mean,
        std=data.std,
        channels=data.channels,
        image_size=data.image_size,
        fingerprint=data.fingerprint,
        origin=data.origin,
        skipped=(),
    )
