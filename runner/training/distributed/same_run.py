"""Checks that all processes of a launch have the same plan, data, code and libraries."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.config.untrusted.targets import locate
from runner.training.checkpointing.resume import typed_key
from runner.training.distributed.agreement import refuse_differences

if TYPE_CHECKING:
    from torch import nn

    from runner.config.schema import RunConfig
    from runner.planning.plan import Plan
    from runner.training.distributed.world import World

_PACKAGE = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "torchvision", "timm")
_OF_EACH_NODE = ("device_name", "threads")
"""What of a plan's performance part may differ between nodes: it decides how fast each does its share."""


def refuse_other_run(world: World, plan: Plan, config: RunConfig) -> None:
    """See that every process was given the same code, data and recipe.

    Raises:
        RequestError: in every process; names what differs first, and where.
    """
    if world.size > 1:
        refuse_differences(world, {**_code(config), **_plan_facts(plan)})


def refuse_other_start(world: World, first: int, model: nn.Module) -> None:
    """See that every process begins with the same update (from 0) and the same weights.

    Raises:
        RequestError: in every process; names what differs, and where.
    """
    if world.size > 1:
        refuse_differences(world, {"first step": first, "weights": _digest_of_weights(model)})


def _digest_of_weights(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()[:12]


def _code(config: RunConfig) -> dict[str, str]:
    facts = {"recipe-runner": f"code {_digest(_PACKAGE)}"}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    for group in ("data", "model", "optimizer", "scheduler", "task", "trainer"):
        target = getattr(config, group).target
        if not target.startswith("runner.") and (file := _source_of(locate(group, target))) is not None:
            facts[f"{group}._target_"] = f"{target} of code {_digest(file)}"
    return facts


def _source_of(target: Any) -> Path | None:
    try:
        file = inspect.getsourcefile(target)
    except TypeError:  # built into the interpreter or compiled
        return None
    return None if file is None else Path(file)


def _digest(place: Path) -> str:
    """The first digits of a hash of a Python file, or of all those in a folder."""
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.relative_to(place)} {len(content)}\0".encode() + content)
    return total.hexdigest()[:12]


def _plan_facts(plan: Plan) -> dict[str, Any]:
    recipe = plan.identity_fields()
    facts: dict[str, Any] = {"data": f"images of fingerprint {recipe['data']['fingerprint'][:12]}"}
    for path, value in _leaves(recipe):
        if path != "data.fingerprint":  # several parts of a plan may follow from one key, and each is compared
            facts[path if typed_key(path) in facts else typed_key(path)] = value
    facts["the names of the classes"] = list(plan.classes)
    performance = dataclasses.asdict(plan.performance)
    return facts | {f"hardware.{key}": value for key, value in performance.items() if key not in _OF_EACH_NODE}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))
    else:
        yield path, value
