"""One update of a finished cell, computed again from its configuration in float64."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.ops import StochasticDepth

from runner.autotune.resolve import resolve_plan
from runner.config.rules import rules
from runner.config.untrusted.run_config import read_values
from runner.data.cache.folder_cache import cache_of_run
from runner.data.images import ImageData
from runner.errors import RequestError, RunError
from runner.models.layer_kinds import BATCH_NORMS, DROPOUTS
from runner.planning.build import build_plan
from runner.planning.device import Device, detect_device
from runner.planning.plan import Plan
from runner.privacy.mechanism.key import SecretKey
from runner.training.distributed.launch import share_work
from runner.training.distributed.world import SingleProcess, World, torch_device
from runner.training.parts import Parts, build_parts
from runner.training.run_data import open_run_data
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings

MIXING: dict[str, tuple[type[nn.Module], ...]] = {
    "BatchNorm": BATCH_NORMS,
    "dropout": (*DROPOUTS, StochasticDepth),
}
"""Kinds of layers to which it matters how a logical batch is split: BatchNorm takes its statistics over a micro-batch,
dropout draws its masks for each anew."""
_UPDATES = "updates.pt"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the update is computed."""

    float64: bool
    """Else in the cell's own precision."""
    still: tuple[str, ...] = ()
    """Kinds of ``MIXING`` that are put into evaluation mode."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one update was made of; flat, on the CPU, in float64."""

    gradient: torch.Tensor
    change: torch.Tensor
    """Of the weights."""


def compute_updates(
    folder: Path, identity: str, performance: dict[str, Any], variants: Sequence[Variant]
) -> list[Update | None]:
    """The first update with a learning rate above 0 of the cell in ``folder``, in each of ``variants``.

    Private cells share one fixed key, so that they draw the same examples, and add no noise.  Several processes are
    started as for a run.

    Args:
        folder: the cell.
        identity: of its plan, as its record has it.
        performance: that of its plan, as its record has it.
        variants: what to compute.

    Returns:
        An update a variant; None where its gradient was not finite.

    Raises:
        RequestError: the configuration does not fit the data or this machine.
        RunError: it no longer leads to the plan of the record, or a process failed.
    """
    config = read_values(folder)
    device = detect_device(config.hardware)
    if device.kind != performance["device"]:
        raise RequestError("hardware.device", device.kind, f"{performance['device']}, on which the cell ran")
    asked = _UpdateRequest(folder=folder, identity=identity, performance=performance, variants=tuple(variants))
    if (processes := performance["processes"]) == 1:
        return _compute(asked, SingleProcess(torch_device(device.kind)), device)
    with tempfile.TemporaryDirectory(prefix="recipe-runner-") as temporary:
        share_work(
            _write_updates,
            (asked, Path(temporary)),
            hardware=config.hardware,
            device=device,
            processes=processes,
            failures=Path(temporary) / "failures.log",
        )
        return torch.load(Path(temporary) / _UPDATES, weights_only=False)


@dataclass(frozen=True, kw_only=True)
class _UpdateRequest:
    folder: Path
    identity: str
    performance: dict[str, Any]
    variants: tuple[Variant, ...]


def _write_updates(job: tuple[_UpdateRequest, Path], world: World, device: Device) -> None:
    """One process's part; what is found is too large to be handed over."""
    asked, temporary = job
    updates = _compute(asked, world, device)
    if world.is_main:
        torch.save(updates, temporary / _UPDATES)


def _compute(asked: _UpdateRequest, world: World, device: Device) -> list[Update | None]:
    folder, performance = asked.folder, asked.performance
    config = read_values(folder)
    config.data.cache_dir = cache_of_run(config.data.cache_dir, folder)
    rules.check(config)
    data = open_run_data(config)
    plan = build_plan(config, data, device, processes=performance["processes"])
    plan = resolve_plan(plan, config, device, world, run_dir=folder)
    plan = plan.evolve({f"performance.{key}": performance[key] for key in ("batch_size", "accumulation_steps")})
    if plan.identity != asked.identity:
        raise RunError("its configuration leads to another plan today: code or data have changed")
    with torch_settings(plan):
        return [
            _update(_vary(plan, variant), data, world, variant, performance["grad_sample"])
            for variant in asked.variants
        ]


def _vary(plan: Plan, variant: Variant) -> Plan:
    """The plan without noise and, if asked, in float64; one update needs no features of all images."""
    plan = plan.evolve({"performance.features": False})
    if plan.semantic.privacy is not None:
        plan = plan.evolve({"semantic.privacy.noise_multiplier": 0.0})
    return plan.evolve({"semantic.precision.dtype": "float64"}) if variant.float64 else plan


def _update(plan: Plan, data: ImageData, world: World, variant: Variant, grad_sample: str | None) -> Update | None:
    parts = build_parts(plan, data, world, key=SecretKey.from_unsafe_seed(0), grad_sample=grad_sample)
    for module in parts.model.modules():
        if any(isinstance(module, MIXING[kind]) for kind in variant.still):
            module.eval()
    step = next(number for number in range(plan.semantic.steps) if parts.schedule.factor(number) > 0)
    before = _flat(parameter.detach() for parameter in parts.parameters)
    TrainStep(parts).run(step)
    update = Update(gradient=_flat(_gradients(parts)), change=_flat(p.detach() for p in parts.parameters) - before)
    return update if update.gradient.isfinite().all() else None


def _gradients(parts: Parts) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parts.parameters]


def _flat(tensors: Any) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1).double().cpu() for tensor in tensors])
