"""The lines of an assessment, as ``python -m runner plan`` prints them."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from runner.config.words.pluralize import pluralize
from runner.forecast.quantities import mib, seconds_text, time_text
from runner.records.progress import budget_text

if TYPE_CHECKING:
    from runner.forecast.assess import Assessment
    from runner.planning.device import Device


def described(assessment: Assessment) -> dict[str, Any]:
    """The assessment as plain values, for JSON: the plan as ``run.json`` has it, and what it will take."""
    return {
        "plan": assessment.plan.as_dict(),
        "device": {
            **dataclasses.asdict(assessment.device),
            "cores": assessment.cores if assessment.device.here else None,
        },
        "model": dataclasses.asdict(assessment.costs.model),
        "grad_sample": assessment.costs.grad_sample,
        "forecast": dataclasses.asdict(assessment.forecast),
        "warnings": [dataclasses.asdict(warning) for warning in assessment.warnings],
        "planning_seconds": assessment.planning_seconds,
    }


def describe(assessment: Assessment) -> list[str]:
    """What a run would be and what it would take."""
    plan, costs = assessment.plan, assessment.costs
    semantic, performance = plan.semantic, plan.performance
    data, model, precision = semantic.data, costs.model, semantic.precision
    frozen = "" if model.trainable == model.parameters else f", {model.trainable:,} of them trained"
    per_update = model.flops * min(semantic.logical_batch, data.examples)
    schedule = semantic.scheduler
    warmup = f" after {pluralize(schedule.warmup_epochs, 'epoch')} of warm-up" if schedule.warmup_epochs else ""
    lines = [
        f"{plan.name}: a plan, nothing was run",
        _device_line(assessment.device, assessment.cores),
        *plan.describe_data(),
        f"model      {semantic.model.name}: {model.parameters:,} parameters{frozen},"
        f" {_flops(model.flops)} an image, {_flops(per_update)} an update",
        f"precision  {precision.dtype}{' with tf32' if precision.tf32 else ''}: {precision.reason}"
        + ("; the run measures" if _left_to_the_run(assessment) else ""),
        *([] if plan.layout is None else [f"format     {plan.layout}"]),
        f"batch      {semantic.logical_batch} = {performance.batch_size} x {performance.accumulation_steps} accumulated"
        f" x {pluralize(performance.processes, 'process')}"
        # the threads are those of this machine
        + (f" of {pluralize(performance.threads, 'thread')}" if assessment.device.here else ""),
        *([] if performance.batch_reason is None else [f"           {performance.batch_reason}"]),
        f"length     {pluralize(semantic.steps, 'update')},"
        f" {pluralize(semantic.steps / semantic.steps_per_epoch, 'epoch')}"
        + ("" if semantic.patience is None else f"; early stopping after {semantic.patience} evaluations may end it"),
        f"optimizer  {semantic.optimizer.name}, lr {semantic.optimizer.lr:g}, {schedule.name}{warmup}",
    ]
    if performance.lr_reason is not None:
        lines.append(f"           {performance.lr_reason}")
    if (privacy := semantic.privacy) is not None:
        spent = math.inf if privacy.unsafe_noise_seed is not None else privacy.epsilon
        solved = {"epsilon": "ε", "noise_multiplier": "the noise", "steps": "the length"}[privacy.solved]
        lines += [
            f"privacy    {budget_text(spent, privacy.delta)} ({privacy.accountant}), noise multiplier"
            f" {privacy.noise_multiplier:.4f}, C={privacy.max_grad_norm:g}, q={privacy.sample_rate:.4f};"
            f" {solved} was solved for",
        ]
        if costs.grad_sample is not None:
            lines.append(f"gradients  per example by {costs.grad_sample}")
    if costs.features is not None:
        once = f"{seconds_text(costs.feature_seconds)} before the first update" if costs.feature_seconds else "as kept"
        lines.append(f"features   {costs.features} once for each image: {mib(costs.feature_bytes)}, {once}")
    notes = [f"note       {note}" for note in plan.notes]
    return [
        *lines,
        *notes,
        *_forecast_lines(assessment),
        *warning_lines(assessment),
        f"how        {_method(assessment)}",
    ]


def _left_to_the_run(assessment: Assessment) -> bool:
    """Whether the run will measure a precision that has not been measured here."""
    plan = assessment.plan
    unmeasured = assessment.forecast.method != "probe" and not plan.performance.deterministic
    return unmeasured and plan.semantic.precision.requested == "auto"


def warning_lines(assessment: Assessment) -> list[str]:
    """A line for each trouble."""
    return [f"warning    {t.key}: {t.what} ({t.evidence}); {t.cure}" for t in assessment.warnings]


def _forecast_lines(assessment: Assessment) -> list[str]:
    forecast, costs, device = assessment.forecast, assessment.costs, assessment.device
    parts, peak = forecast.parts, forecast.peak_bytes
    memory = f"memory     {mib(peak.expected)} ({mib(peak.low)} to {mib(peak.high)}) a process"
    if not device.here:
        return [f"{memory}, beside what CUDA itself takes", f"time       {time_text(forecast.seconds, device)}"]
    shares = ", ".join(
        f"{name} {seconds_text(seconds)}"
        for name, seconds in (
            ("training", parts.training),
            ("evaluation", parts.evaluation),
            ("checkpoints", parts.saving),
            *([] if costs.accounts is None else [("accounting", parts.accounting)]),
            *([] if costs.tracking is None else [("the tracker", parts.tracking)]),
            ("the rest", parts.rest),
        )
    )
    held = f", {mib(costs.baseline_bytes)} of it libraries" if device.kind == "cpu" else ""
    lines = [f"{memory}{held}", f"time       {time_text(forecast.seconds, device)}: {shares}"]
    if (price := forecast.price) is not None:
        lines.append(f"price      {price.expected:.2g} ({price.low:.2g} to {price.high:.2g})")
    return lines


def _device_line(device: Device, cores: int) -> str:
    count = f"{device.count} x " if device.kind != "cpu" and device.here else ""
    machine = f", {pluralize(cores, 'core')}" if device.here else ""
    absent = "" if device.here else "; not here, and of its machine nothing is known"
    return (
        f"device     {count}{device.name} ({device.kind}), {device.memory_bytes / 2**30:.1f} GiB{machine};"
        f" native: {device.native}{absent}"
    )


def _method(assessment: Assessment) -> str:
    if assessment.forecast.method == "elsewhere":
        return f"{assessment.device.name} by its data sheet, memory worked out from operations within a factor of 2"
    if assessment.forecast.method == "estimate":
        return "worked out from operations and the machine's rates; time and memory within a factor of 2 (--no-probe)"
    costs = assessment.costs
    text = f"a probe of {pluralize(len(costs.step_seconds), 'update')}, an evaluation and a checkpoint"
    if costs.images_timed is not None:
        limit = assessment.plan.performance.probe_seconds
        text += (
            f"; updates of {costs.images_timed} images in place of {assessment.plan.semantic.logical_batch}, because"
            f" those would take more than hardware.probe_seconds={limit:g}: so the ranges are wider"
        )
    return f"{text}, {assessment.planning_seconds:.1f} s"


def _flops(flops: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}FLOP"
    return f"{flops / 1e3:.3g} kFLOP"
