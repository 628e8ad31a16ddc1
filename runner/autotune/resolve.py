"""Resolves what a request leaves to the machine, before the run gets its identity.

``precision=auto`` changes numbers, so what it stands for belongs to the identity of a run and must not depend on when
it is asked.  In this order it is:

1. what the run in this folder was begun with;
2. with ``deterministic=true`` what the facts about the device say, and no measurement;
3. in a sweep, what its first cell with this model was given, whatever else differs between the cells;
4. what was measured before for this model, shape, device and version, from the user's cache;
5. what is measured now, on random images: under DP the choice then depends on nothing private.

With it goes the memory format.  Where the request names a precision, the format alone is chosen, in the same order; it
changes results by rounding at most.  A run too short for that to pay takes channels_last, whatever the cache says:
whether it is short follows from the request, so that the same command takes the same way whatever ran before it.

``data.batch_size=auto`` is settled after it, because what fits depends on the type: again as the run was begun, in a
sweep as the first cell of this kind was given, or else measured now; what else takes memory on a machine changes, so no
measurement outlives its sweep.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.autotune.batch_size import fitting_batch, memory_limit, with_batch
from runner.autotune.cache import keep
from runner.autotune.precision import fastest_candidate, open_candidates
from runner.autotune.rehearsal import give_back_memory
from runner.config.choice import Choice
from runner.data.cache.folder_cache import default_cache_dir
from runner.planning.build import derive_name
from runner.planning.restore import performance_of
from runner.records.run_file import RUN_FILE, read_run, utc_now
from runner.training.distributed.agreement import decide_on_main

if TYPE_CHECKING:
    from runner.config.schema import RunConfig
    from runner.planning.device import Device
    from runner.planning.plan import Plan
    from runner.training.distributed.world import World

CHOICES = ".choices"
"""Folder of a sweep's choices, inside the sweep's own."""

_SHORT = 500_000_000
"""Numbers in the images that a run trains on, 3,300 photos of 224 pixels or 160,000 of 32, below which timing the
memory formats would take more than some 3 % of its updates."""

_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that change which kernels run."""


def resolve_plan(
    plan: Plan,
    config: RunConfig,
    device: Device,
    world: World,
    *,
    run_dir: Path | None = None,
    sweep_dir: Path | None = None,
) -> Plan:
    """``plan``, which ``build_plan`` made of ``config``, with what was left open decided; equal in every process.

    Args:
        plan: of the request.
        config: the request.
        device: where the run happens.
        world: its processes; the first one decides for all.
        run_dir: folder of the run, which may have been begun before; None where there is none yet.
        sweep_dir: folder of the sweep that the run belongs to.

    Raises:
        RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
        RunError: there is no memory for one example, or ``run.json`` is not a record of a run.
    """
    plan = resolve_precision(plan, config, device, world, run_dir=run_dir, sweep_dir=sweep_dir)
    if config.data.batch_size == "auto":
        plan = with_batch(plan, decide_on_main(world, lambda: _fit(plan, config, device, run_dir, sweep_dir)))
    return plan


def resolve_precision(
    plan: Plan,
    config: RunConfig,
    device: Device,
    world: World,
    *,
    run_dir: Path | None = None,
    sweep_dir: Path | None = None,
) -> Plan:
    """The part of ``resolve_plan`` that is about the precision and the memory format."""
    if plan.semantic.precision.requested != "auto" and config.hardware.channels_last is not None:
        return plan
    return _with_choice(plan, config, decide_on_main(world, lambda: _choose(plan, config, device, run_dir, sweep_dir)))


def _with_choice(plan: Plan, config: RunConfig, choice: dict[str, Any] | None) -> Plan:
    if choice is None:
        return plan
    measures_types = plan.semantic.precision.requested == "auto"
    dtype, reason = choice["dtype"], choice["reason"]
    if config.hardware.channels_last is None:
        why = "measured with the precision" if measures_types else reason
        plan = plan.evolve(
            {"performance.channels_last": choice["channels_last"], "performance.channels_last_reason": why}
        )
    if not measures_types:
        return plan
    name = config.name or derive_name(config, dtype)
    return plan.evolve({"name": name, "semantic.precision.dtype": dtype, "semantic.precision.reason": reason})


def _choose(
    plan: Plan, config: RunConfig, device: Device, run_dir: Path | None, sweep_dir: Path | None
) -> dict[str, Any] | None:
    """``dtype``, ``channels_last`` and ``reason``, which is None for a format that does not matter.

    None for what the plan says already.
    """
    measures_types = plan.semantic.precision.requested == "auto"
    if (before := _earlier_choices(run_dir)) is not None:
        precision, performance = before["semantic"]["precision"], before["performance"]
        reason = precision["reason"] if measures_types else performance.get("channels_last_reason")
        return {"dtype": precision["dtype"], "channels_last": performance["channels_last"], "reason": reason}
    if plan.performance.deterministic or not (measures_types or _is_long(plan)):
        return None

    def measured_once() -> dict[str, Any]:
        facts = _what(plan) | _where(plan, config)
        return keep(default_cache_dir() / "choices", facts, lambda: _measure(plan, config, device))

    if sweep_dir is None:
        return measured_once()
    return keep(sweep_dir / CHOICES, _what(plan), measured_once)


def _is_long(plan: Plan) -> bool:
    """Whether a run trains long enough for a measurement of the memory formats to pay."""
    data = plan.semantic.data
    return plan.semantic.steps * plan.semantic.logical_batch * data.channels * data.image_size**2 >= _SHORT


def _fit(plan: Plan, config: RunConfig, device: Device, run_dir: Path | None, sweep_dir: Path | None) -> Choice[int]:
    """The size of micro-batches."""
    performance = plan.performance
    share = performance.batch_size * performance.accumulation_steps
    if (before := _earlier_choices(run_dir)) is not None:
        earlier = performance_of(before)
        measured_before = earlier["batch_source"] == "measurement"
        if measured_before and earlier["batch_size"] * earlier["accumulation_steps"] == share:
            return Choice(earlier["batch_size"], "measurement", earlier["batch_reason"])

    def measured() -> dict[str, Any]:
        found = fitting_batch(plan.uncompiled(), config, device)
        return {"batch_size": found.value, "reason": found.reason}

    if sweep_dir is None:
        return fitting_batch(plan.uncompiled(), config, device)
    facts = {
        "dtype": plan.semantic.precision.dtype,
        "share": share,
        "limit": memory_limit(config.hardware, device, performance.processes),
        "augment": dataclasses.asdict(plan.semantic.data.augment),
    }
    kept = keep(sweep_dir / CHOICES, _what(plan) | _where(plan, config) | facts, measured)
    return Choice(kept["batch_size"], "measurement", kept["reason"])


def _earlier_choices(run_dir: Path | None) -> dict[str, Any] | None:
    """The plan of the run that was begun in ``run_dir``."""
    if run_dir is None or not (run_dir / RUN_FILE).exists():
        return None
    return dict(read_run(run_dir).plan) or None


def _measure(plan: Plan, config: RunConfig, device: Device) -> dict[str, Any]:
    start = time.perf_counter()
    precision, channels_last = plan.semantic.precision, plan.performance.channels_last
    named = None if precision.requested == "auto" else precision.dtype
    candidates = open_candidates(device, config.hardware.channels_last, named)
    found = fastest_candidate(plan, candidates, memory_bytes=device.memory_bytes)
    give_back_memory()
    if found is None:
        large = "too large to measure within hardware.probe_seconds and memory"
        reason = large if named else f"{large}; {precision.reason}"
        return {"dtype": precision.dtype, "channels_last": channels_last, "reason": reason}
    candidate, times = found
    measured_reason = f"measured {utc_now()[:16]} in {time.perf_counter() - start:.1f} s: {times}"
    only = None if named else "the only type that is native here"
    return {
        "dtype": candidate.dtype,
        "channels_last": candidate.channels_last,
        "reason": only if times is None else measured_reason,
    }


def _what(plan: Plan) -> dict[str, Any]:
    """What is computed, as far as the speed of a type depends on it and a sweep may not decide by more."""
    semantic = plan.semantic
    model = dataclasses.asdict(semantic.model)
    del model["weights"]
    data = semantic.data
    return {
        "model": model,
        "norm": semantic.norm,
        "image": [data.channels, data.image_size],
        "classes": data.num_classes,
        "private": semantic.privacy is not None,
        # None where it is asked for as well
        "dtype": None if semantic.precision.requested == "auto" else semantic.precision.dtype,
    }


def _where(plan: Plan, config: RunConfig) -> dict[str, Any]:
    """The rest of what a measurement depends on."""
    performance = plan.performance
    return {
        "device": performance.device_name,
        "threads": performance.threads,
        "processes": performance.processes,
        "batch_size": performance.batch_size,
        "channels_last": config.hardware.channels_last,
        "grad_sample": performance.grad_sample,
        "optimizer": plan.semantic.optimizer.target,
        "torch": torch.__version__,
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }
