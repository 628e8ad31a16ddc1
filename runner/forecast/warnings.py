"""Warnings about a plan, each with its evidence and the key to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.words.pluralize import pluralize
from runner.forecast.analytic_costs import activations
from runner.forecast.quantities import mib
from runner.planning.device import available_cores

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.forecast.costs import Costs
    from runner.forecast.forecast import Forecast
    from runner.planning.device import Device
    from runner.planning.plan import Plan

SIXTEEN_BITS = ("bfloat16", "float16")
FEW_FOR_STATISTICS = 8
"""Images over which BatchNorm's statistics are poor (Wu and He 2018, figure 1: error grows below 16 images)."""
GAIN = 1.05
"""A 16-bit type has to be this much faster to be worth its rounding."""
_OVERHEAD_SHARE = 0.3
"""Of the time, beyond which evaluation or saving is worth a word."""


@dataclass(frozen=True, kw_only=True)
class ForecastWarning:
    """One warning."""

    key: str
    """What to change."""
    what: str
    evidence: str
    """What was measured or counted."""
    cure: str


def find_warnings(
    plan: Plan,
    data: ImageData,
    device: Device,
    costs: Costs,
    forecast: Forecast,
    *,
    paired_seconds: Mapping[str, float] | None,
) -> list[ForecastWarning]:
    """Everything that is likely to go wrong with ``plan``, what concerns its result before what costs time.

    ``paired_seconds`` are the seconds of an update in float32 and in the 16-bit type of the plan, measured side by
    side; None where they were not.
    """
    return [
        *_batch(plan, data, costs),
        *_privacy(plan, costs),
        *_memory(plan, data, device, costs, forecast),
        *_sixteen_bits(plan, device, paired_seconds),
        *_cores(plan),
        *(_overhead(forecast) if device.here else ()),
    ]


def _batch(plan: Plan, data: ImageData, costs: Costs) -> Iterator[ForecastWarning]:
    semantic, performance = plan.semantic, plan.performance
    examples = len(data.train)
    if semantic.logical_batch > examples:
        yield ForecastWarning(
            key="data.batch_size",
            what="the effective batch is larger than the training data",
            evidence=f"{semantic.logical_batch} asked, {examples} there: every update sees all of them",
            cure=f"an effective batch of at most {examples}",
        )
    if semantic.norm == "batch" and costs.model.batch_norm:
        share = math.ceil(min(semantic.logical_batch, examples) / performance.processes)
        micro = min(performance.batch_size, share)
        last = _last_micro_batch(plan, examples)
        if micro < FEW_FOR_STATISTICS:
            yield ForecastWarning(
                key="data.batch_size",
                what="BatchNorm's statistics come from tiny micro-batches, which accumulation does not enlarge",
                evidence=f"{micro} images each",
                cure=f"data.batch_size of {FEW_FOR_STATISTICS} and more, or model.norm=group",
            )
        elif last < FEW_FOR_STATISTICS:
            yield ForecastWarning(
                key="data.batch_size",
                what="BatchNorm's statistics of each epoch's last micro-batch come from few images",
                evidence=f"{examples} images leave {last} for it",
                cure="another data.batch_size, or model.norm=group",
            )


def _last_micro_batch(plan: Plan, examples: int) -> int:
    """Images in the smallest micro-batch of an epoch's last, shorter window."""
    performance = plan.performance
    window = examples % plan.semantic.logical_batch or plan.semantic.logical_batch
    # the processes share the window round-robin; the last one has the smallest share
    share = window // performance.processes or 1
    return share % performance.batch_size or performance.batch_size


def _privacy(plan: Plan, costs: Costs) -> Iterator[ForecastWarning]:
    privacy = plan.semantic.privacy
    if privacy is None:
        return
    examples, batch = plan.semantic.data.examples, plan.semantic.logical_batch
    model = plan.semantic.model.name
    # Each example's clipped gradient has a norm of at most C; their mean over the batch therefore too.
    noise = privacy.noise_multiplier * math.sqrt(costs.model.trainable) / batch
    if noise > 1:
        yield ForecastWarning(
            key="data.batch_size",
            what="the noise is larger than any gradient that it hides: too few examples an update for this ε",
            evidence=(
                f"noise of norm {noise:.1f} C on a mean gradient of at most C"
                f" (noise multiplier {privacy.noise_multiplier:.2f}, {costs.model.trainable:,} weights, batch {batch})"
            ),
            cure=f"a larger effective batch or privacy.epsilon, or {_smaller(model)}",
        )
    if privacy.delta * examples > 0.1:
        yield ForecastWarning(
            key="privacy.delta",
            what="δ allows one example in ten to be given away",
            evidence=f"δ = {privacy.delta:g} for {examples} examples: {privacy.delta * examples:.2f} of one",
            cure="privacy.delta=null",
        )
    if privacy.unsafe_noise_seed is not None:
        yield ForecastWarning(
            key="privacy.unsafe_noise_seed",
            what="the run will not be private",
            evidence="anyone can compute noise from a known seed",
            cure="privacy.unsafe_noise_seed=null",
        )


def _smaller(model: str) -> str:
    """What to have fewer trained weights by; ``model`` may have fixed features in front already."""
    if model.startswith("linear"):
        return "a smaller data.image_size"
    if model.endswith("_hog") or model.startswith("scatter_"):
        return "a smaller model (model=linear_hog)"
    return "a smaller model or fixed features (model=mlp_hog)"


def _memory(plan: Plan, data: ImageData, device: Device, costs: Costs, forecast: Forecast) -> Iterator[ForecastWarning]:
    performance, memory = plan.performance, device.memory_bytes
    # a limit is one process's
    sharing = performance.processes if device.kind == "cpu" and not device.memory_limited else 1
    needed, held = forecast.peak_bytes.expected * sharing, costs.held_bytes * sharing
    if needed <= memory:
        return
    measured = performance.batch_source != "request"
    foreseen, there = f"{mib(needed)} foreseen", f"{mib(memory)} there"
    ignored_variables = "a run of a fixed batch takes what it needs, whatever hardware.memory_limit says"
    if held > memory:
        what = "no batch is small enough for the memory"
        yield ForecastWarning(
            key="hardware.memory_limit" if device.memory_limited else "model",
            what=f"{what}; {ignored_variables}" if device.memory_limited and not measured else what,
            evidence=f"{foreseen}, {mib(held)} of it libraries, weights and gradients; {there}",
            cure="more memory" if costs.baseline_bytes * sharing > memory else "more memory, or a smaller model",
        )
        return
    if measured:
        return
    at_once = activations(plan, data, costs.model)
    training = at_once.training_is_larger
    if device.memory_limited:
        what, size = f"more memory than the limit; {ignored_variables}", plan.semantic.logical_batch
        smaller = f"data.batch_size=auto trainer.effective_batch_size={size}, which keeps to it"
    else:
        what = "the memory will not suffice, and batches will be halved on the way"
        if device.kind == "cpu":
            what += ", if the system does not end the run before"
        smaller = "a smaller data.batch_size with trainer.accumulation_steps in proportion"
    yield ForecastWarning(
        key="data.batch_size" if training else "data.eval_batch_size",
        what=what,
        evidence=f"{foreseen}, {there}",
        cure=smaller if training else f"less than the {at_once.evaluated} images that are evaluated at once",
    )


def _sixteen_bits(plan: Plan, device: Device, paired_seconds: Mapping[str, float] | None) -> Iterator[ForecastWarning]:
    dtype = plan.semantic.precision.dtype
    if dtype not in SIXTEEN_BITS:
        return
    if device.kind == "cuda" and not device.native.fp16:
        what = f"{device.name} has no tensor cores, so 16-bit products are no faster there"
    elif device.kind == "cpu" and dtype == "float16":
        what = "on a CPU the products of float16 are those of float32, rounded"
    elif dtype == "bfloat16" and not device.native.bf16:
        what = f"{device.name} has no native bfloat16"
    elif dtype == "float16" and not device.native.fp16:
        what = f"{device.name} has no native float16"
    else:
        what = "this model is too small to gain by 16 bits here"
    native = what.startswith("this model")
    if paired_seconds is None:
        if not native:
            yield ForecastWarning(
                key="precision",
                what=what,
                evidence="the device's own statement",
                cure="precision=fp32, or with a probe",
            )
    elif paired_seconds["float32"] < GAIN * paired_seconds[dtype]:
        yield ForecastWarning(
            key="precision",
            what=what,
            evidence=(
                f"a micro-batch takes {paired_seconds[dtype] * 1e3:.2f} ms,"
                f" in float32 {paired_seconds['float32'] * 1e3:.2f} ms"
            ),
            cure="precision=fp32, unless memory is what is short",
        )


def _cores(plan: Plan) -> Iterator[ForecastWarning]:
    performance, cores = plan.performance, available_cores()
    if performance.device == "cpu" and performance.processes * performance.threads > cores:
        yield ForecastWarning(
            key="hardware.processes" if performance.processes > cores else "hardware.threads",
            what="the processes and their threads are more than the cores, and wait for each other",
            evidence=f"{pluralize(performance.processes, 'process')} of {pluralize(performance.threads, 'thread')} on"
            f" {pluralize(cores, 'core')}",
            cure=f"hardware.processes x hardware.threads of at most {cores}",
        )


def _overhead(forecast: Forecast) -> Iterator[ForecastWarning]:
    parts = forecast.parts
    for key, name, seconds in (
        ("trainer.eval_every", "evaluation on the validation split", parts.evaluation),
        ("trainer.save_every", "checkpoints", parts.saving),
    ):
        if seconds > _OVERHEAD_SHARE * parts.total and seconds > 1:
            yield ForecastWarning(
                key=key,
                what=f"{name} take{'s' if key.endswith('eval_every') else ''} much of the time",
                evidence=f"{seconds / parts.total:.0%} of it, {seconds:.1f} s",
                cure=f"a larger {key}",
            )
