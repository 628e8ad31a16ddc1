"""``--advise``: the usual decisions of a training recipe, answered for this machine, with reasons and words to type.

The questions are those of the field's decision tables: is privacy needed, are there several GPUs, is bfloat16 native,
is memory short.  Where an answer can be measured in a second or two it is.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.autotune.resolve import resolve_precision
from runner.config.choice import evolve
from runner.config.schema import RunConfig
from runner.forecast.analytic_costs import activations
from runner.forecast.assess import assess
from runner.forecast.quantities import mib
from runner.forecast.warnings import FEW_FOR_STATISTICS
from runner.planning.build import build_plan, choose_precision
from runner.planning.device import describe_absent_device
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.run_data import open_run_data

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.forecast.assess import Assessment
    from runner.planning.device import Device
    from runner.planning.plan import Plan

_SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""Options of ``precision``."""

FITS = 0.9
"""Share of the device's memory that a plan may take before memory counts as short."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One question, answered."""

    question: str
    answer: str
    words: tuple[str, ...]
    """What to add to the command."""
    reason: str
    """With what was measured or is stated by the device."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A recipe for this machine."""

    decisions: tuple[Decision, ...]
    command: str
    """What to type."""


def advise(config: RunConfig, overrides: Sequence[str], *, probe: bool) -> Advice:
    """Answer the questions for ``config``; ``overrides`` are what was typed, which the command repeats.

    Raises:
        RequestError: the request does not fit the data or the machine.
        RunError: it cannot be planned.
    """
    device = describe_absent_device(config.hardware)
    data = open_run_data(config)
    plan = build_plan(config, data, device, processes=1)
    # first, because what other measurements leave in this process would count as the run's
    memory = _memory(config, data, device, probe=probe)
    decisions = [
        _privacy(config),
        _devices(config, device),
        _precision(config, plan, device, probe=probe),
        memory,
    ]
    decided = [word for decision in decisions for word in decision.words]
    groups = {word.partition("=")[0] for word in decided}
    typed = [word for word in overrides if word.partition("=")[0] not in groups]
    command = shlex.join(["python", "-m", "runner", *typed, *decided])
    return Advice(decisions=tuple(decisions), command=command)


def describe_advice(advice: Advice) -> list[str]:
    """The advice in lines for people."""
    lines = []
    for decision in advice.decisions:
        words = " ".join(decision.words) or "nothing to change"
        lines += [f"{decision.question} {decision.answer}: {words}", f"    {decision.reason}"]
    return [*lines, "", advice.command]


def described_advice(advice: Advice) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    return dataclasses.asdict(advice)


def _privacy(config: RunConfig) -> Decision:
    question = "Is privacy needed?"
    if config.privacy.enabled:
        return Decision(
            question=question,
            answer="yes, as asked",
            words=("trainer=dp",),
            reason="the one trainer whose result says how little it tells of any one example; slower and less accurate",
        )
    return Decision(
        question=question,
        answer="not asked for",
        words=(),
        reason="where the images are of people or confidential, ask again with trainer=dp privacy.epsilon=3",
    )


def _devices(config: RunConfig, device: Device) -> Decision:
    question = "Are there several GPUs?"
    # a private run has a trainer of its own, for one process or several
    several = ("hardware=multi_gpu",) if config.privacy.enabled else ("trainer=accelerate", "hardware=multi_gpu")
    if not device.here:
        return Decision(
            question=question,
            answer="not known from here",
            words=_one_gpu(config),
            reason=f"with several {device.name}, type {' '.join(several)} there",
        )
    if device.kind == "cuda" and device.count > 1:
        return Decision(
            question=question,
            answer=f"yes, {device.count}",
            words=several,
            reason=f"one process for each {device.name}; the effective batch grows with them, so set optimizer.lr anew",
        )
    return Decision(
        question=question,
        answer="no" if device.kind == "cuda" else f"no GPU that CUDA knows, but {device.name}",
        words=_one_gpu(config) if device.kind == "cuda" else (),
        reason="one process; several on one CPU share its cores and gain nothing"
        if device.kind == "cpu"
        else "one GPU",
    )


def _one_gpu(config: RunConfig) -> tuple[str, ...]:
    return () if config.privacy.enabled else ("trainer=mixed_precision",)


def _precision(config: RunConfig, plan: Plan, device: Device, *, probe: bool) -> Decision:
    question, answer = "Is bfloat16 native?", "yes" if device.native.bf16 else "no"
    if device.native.stated:
        answer += f" ({', '.join(device.native.stated)})"
    if probe and device.here:
        return _measured_precision(config, plan, device, question, answer)
    if device.kind == "cpu":
        word, reason = "precision=fp32", "a CPU gains by 16 bits in large models at most; a probe would measure it"
    elif device.native.bf16:
        word, reason = "precision=bf16", f"{device.name} has it, and it needs no loss scale"
    elif device.native.fp16:
        word, reason = "precision=fp16", f"{device.name} has tensor cores for float16 alone"
    else:
        word, reason = "precision=fp32", f"{device.name} has no tensor cores, so 16 bits save memory and no time"
    return Decision(question=question, answer=answer, words=(word,), reason=reason)


def _measured_precision(config: RunConfig, plan: Plan, device: Device, question: str, answer: str) -> Decision:
    """What ``precision=auto`` stands for here, and the memory format that goes with it."""
    left_open = evolve(config, {"precision.amp_dtype": "auto"})
    plan = plan.evolve({"semantic.precision": choose_precision(left_open.precision, device)})
    chosen = resolve_precision(plan, left_open, device, SingleProcess(torch_device(device.kind)))
    precision = chosen.semantic.precision
    words = [f"precision={_SHORT[precision.dtype]}"]
    if chosen.performance.channels_last != plan.performance.channels_last:
        words.append(f"hardware.channels_last={str(chosen.performance.channels_last).lower()}")
    return Decision(question=question, answer=answer, words=tuple(words), reason=precision.reason)


def _memory(config: RunConfig, data: ImageData, device: Device, *, probe: bool) -> Decision:
    question = "Is memory short?"
    found = assess(config, probe=probe)
    needed = found.forecast.peak_bytes.expected
    rough = "" if found.forecast.method == "probe" else ", by an estimate within a factor of 2"
    reason = f"{mib(needed)} of {mib(device.memory_bytes)}{rough}"
    if needed <= FITS * device.memory_bytes:
        return Decision(question=question, answer="no", words=(), reason=reason)
    if (held := found.costs.held_bytes) > device.memory_bytes:
        alone = f"libraries, weights and gradients alone take {mib(held)}, which smaller batches do not change"
        return Decision(question=question, answer="yes", words=(), reason=f"{reason}; {alone}")
    if config.data.batch_size == "auto":
        return Decision(question=question, answer="the run measures what fits", words=(), reason=reason)
    words, cost = _smaller_batches(config, found, data, FITS * device.memory_bytes)
    return Decision(question=question, answer="yes", words=words, reason=f"{reason}; {cost}")


def _smaller_batches(
    config: RunConfig, found: Assessment, data: ImageData, memory: float
) -> tuple[tuple[str, ...], str]:
    """Words for less that goes through the model at once, so that ``memory`` suffices as far as it can; their cost.

    A run that may measure finds out itself how many fit.  ``deterministic=true`` gets a number.
    """
    plan, size = found.plan, found.costs.model
    at_once, foreseen = activations(plan, data, size), found.forecast.peak_bytes.expected
    # what an image takes is worked out, what all of them take together was foreseen
    fixed = max(found.costs.held_bytes, foreseen - at_once.most_bytes)
    room = max(0.0, memory - fixed) / max(1.0, foreseen - fixed) * at_once.most_bytes
    trained = _fitting(at_once.trained, at_once.trained_bytes, room)
    evaluated = _fitting(at_once.evaluated, at_once.evaluated_bytes, room)
    measures = trained < at_once.trained and not config.deterministic
    pieces = "the largest pieces that fit, which the run measures" if measures else "smaller pieces"
    cost = f"the same effective batch in {pieces}"
    if trained < at_once.trained and size.batch_norm and trained < FEW_FOR_STATISTICS:
        cost += ", but BatchNorm takes its statistics over each: model.norm=group does not"
    if measures:
        whole = ("data.batch_size=auto", f"trainer.effective_batch_size={plan.semantic.logical_batch}")
        # a recipe may have split the batch by hand, which auto works out
        split = () if config.trainer.accumulation_steps is None else ("trainer.accumulation_steps=null",)
        return (*whole, *split), cost
    words = []
    if trained < at_once.trained:
        accumulated = plan.performance.accumulation_steps * -(-plan.performance.batch_size // trained)
        words += [f"data.batch_size={trained}", f"trainer.accumulation_steps={accumulated}"]
    if evaluated < at_once.evaluated:
        words.append(f"data.eval_batch_size={evaluated}")
    return tuple(words), cost if words else "one example at a time already"


def _fitting(batch: int, image: int, room: float) -> int:
    """``batch``, or the largest power of two below it whose images fit."""
    if batch * image <= room:
        return batch
    return max(1, min(2 ** math.floor(math.log2(max(1.0, room / image))), batch))
