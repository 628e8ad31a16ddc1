"""Costs of a run's parts estimated from one pass of its network on blank images: within a factor of 2."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.data.augment import is_on
from runner.data.cache.folder_cache import scratch_folder
from runner.data.feed import READY_BYTES
from runner.forecast.costs import Costs, ModelSize
from runner.forecast.machine_load import competing_load
from runner.forecast.machine_speed import Machine, Passes, measure_machine, time_passes
from runner.forecast.operation_counts import measure_model
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.training.distributed.world import torch_device
from runner.training.model import build_model
from runner.training.precision.precision import build_precision
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.planning.plan import Plan

PRIVATE_FACTORS = {"ghost": 1.75, "functional": 3.5, "hooks": 3.2}
"""What gradients per example multiply a step by: ghost clipping 1.6 to 1.9 (docs/results/2026-11-23-dp-step.md), the
others 1.3 to 2.8 times as much as that, the more the smaller images are.  ``auto`` mostly takes ghost clipping."""
_UPDATE_KERNELS, _STATE_KERNELS, _AVERAGE_KERNELS = 30, 20, 30
"""Operations of an update outside the network: batch, loss and accuracy; each state of the optimizer; averaged weights.
By probes of small models, whose updates consist of little else."""
_NORM_KERNELS = 3
"""Operations of a private update for each of the network's: norms, weighted sums, noise."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Images that go through a model at once, and what each takes there."""

    trained: int
    """In a micro-batch."""
    trained_bytes: int
    """With what is kept until the backward pass."""
    evaluated: int
    """In an evaluation."""
    evaluated_bytes: int

    @property
    def most_bytes(self) -> int:
        """At the larger of the two."""
        return max(self.trained * self.trained_bytes, self.evaluated * self.evaluated_bytes)

    @property
    def training_is_larger(self) -> bool:
        """Whether training takes more than the evaluation."""
        return self.trained * self.trained_bytes == self.most_bytes


def estimate_costs(plan: Plan, data: ImageData, *, cache_dir: str | None) -> Costs:
    """Estimate the pieces of ``plan`` for one process of it; no step is made.

    Raises:
        RequestError: the model cannot be had as asked.
    """
    semantic = plan.semantic
    device = torch_device(plan.performance.device)
    reset_peak_memory(device)
    baseline = peak_memory_bytes(device)

    shape = semantic.data.image_shape
    model = build_model(plan)
    size = measure_model(model, image_shape=shape)
    private = semantic.privacy is not None
    neighbours = plan.performance.processes - 1 if device.type == "cpu" else 0
    with torch_settings(plan), competing_load(neighbours), scratch_folder(cache_dir) as scratch:
        machine = measure_machine(device, scratch)
        precision = build_precision(semantic.precision, device, private=private)
        passes = time_passes(model, precision, image_shape=shape, batch=plan.performance.batch_size)
    step = _step(plan, size, machine, passes)
    states = _optimizer_states(plan)
    written = size.trainable * 4 * (1 + states) / machine.bytes_per_second
    save = 6 * machine.write_seconds + 20 * written
    return Costs(
        method="estimate",
        model=size,
        set_up_seconds=0.0,
        start_seconds=2 * machine.write_seconds,
        first_step_seconds=step,
        step_seconds=(step,),
        record_seconds=machine.kernel_seconds * 10,
        # a forward pass is a third of both
        evaluation_seconds_per_example=passes.per_example / 3 + passes.per_batch / 3 / plan.performance.eval_batch_size,
        hold_seconds=written,
        save_seconds=save,
        load_seconds=machine.write_seconds + 5 * written,
        test_set_up_seconds=0.0,
        peak_bytes=baseline + _memory(plan, data, size, states),
        baseline_bytes=baseline,
        grad_sample=None,
    )


def estimate_costs_in_subprocess(plan: Plan, data: ImageData, *, cache_dir: str | None) -> Costs:
    """Estimate ``plan`` for a GPU that is not here: its memory, and the seconds of the same work on this machine's CPU.

    Raises:
        RequestError: see ``estimate_costs``.
    """
    here = plan.evolve(
        {"semantic.precision.dtype": "float32", "semantic.precision.tf32": False, "performance.device": "cpu"}
    )
    costs = estimate_costs(here, data, cache_dir=cache_dir)
    peak = _memory(plan, data, costs.model, _optimizer_states(plan))
    return dataclasses.replace(costs, method="elsewhere", peak_bytes=peak, baseline_bytes=0)


def _step(plan: Plan, size: ModelSize, machine: Machine, passes: Passes) -> float:
    """Seconds of an update of one process."""
    semantic, performance = plan.semantic, plan.performance
    states = _optimizer_states(plan)
    share = min(semantic.logical_batch, semantic.data.examples) / performance.processes
    micro_batches = max(1.0, share / performance.batch_size)
    kernels = _UPDATE_KERNELS + _STATE_KERNELS * states
    if semantic.ema_decay is not None:
        kernels += _AVERAGE_KERNELS
    moved = (2 + 2 * states) * size.trainable * 4
    update = moved / machine.bytes_per_second + kernels * machine.kernel_seconds
    privacy = semantic.privacy
    if privacy is None:
        return share * passes.per_example + micro_batches * passes.per_batch + update
    # half of the Poisson samples are larger than the batch and take another, small pass
    private = share * privacy.augmentation_multiplicity * passes.per_example + (micro_batches + 0.5) * passes.per_batch
    factor = PRIVATE_FACTORS.get(performance.grad_sample or "auto", PRIVATE_FACTORS["ghost"])
    return factor * private + update + size.kernels * _NORM_KERNELS * machine.kernel_seconds


def _memory(plan: Plan, data: ImageData, size: ModelSize, states: int) -> int:
    """Bytes beside the libraries: weights, gradients, optimizer, activations, and the images that are kept ready."""
    semantic = plan.semantic
    weights = 4 * (size.parameters + (2 + states) * size.trainable)
    image = 4 * semantic.data.channels * semantic.data.image_size**2
    ready = 0
    for images in (data.train, data.val, data.test):
        augmented = images is data.train and is_on(semantic.data.augment)
        if images is not None and not augmented and len(images) * image <= READY_BYTES:
            ready += len(images) * image
    return weights + activations(plan, data, size).most_bytes + ready


def trained_bytes(plan: Plan, size: ModelSize) -> int:
    """What an image of a micro-batch of ``plan`` takes until the backward pass, by its operations."""
    privacy = plan.semantic.privacy
    trained = 2 * size.saved_per_example * (1 if privacy is None else privacy.augmentation_multiplicity)
    return trained // 2 if plan.semantic.precision.dtype in ("bfloat16", "float16") else trained


def activations(plan: Plan, data: ImageData, size: ModelSize) -> Activations:
    """What goes through the model of ``plan`` at once, by its operations."""
    semantic, performance = plan.semantic, plan.performance
    most = max(0 if images is None else len(images) for images in (data.val, data.test))
    return Activations(
        trained=min(performance.batch_size, semantic.data.examples),
        trained_bytes=trained_bytes(plan, size),
        evaluated=min(performance.eval_batch_size, most),
        evaluated_bytes=4 * semantic.data.channels * semantic.data.image_size**2 + size.saved_per_example // 4,
    )


def _optimizer_states(plan: Plan) -> int:
    """Numbers that the optimizer keeps for each weight."""
    options = plan.semantic.optimizer.options
    if "betas" in options:
        return 2
    return 1 if options.get("momentum") or "alpha" in options else 0
