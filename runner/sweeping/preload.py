"""Modules that the fork server imports once for all cells."""

from __future__ import annotations

from collections.abc import Iterable

from runner.config.schema import RunConfig
from runner.internals.compiler import COMPILER

MODULES = (
    "torch.func",
    "safetensors.torch",
    "rich.live",
    "runner.execution.job",
    "runner.data.open",
    "runner.planning.build",
    "runner.records.environment",
    "runner.records.recorder",
    "runner.sweeping.privacy_file",
    "runner.sweeping.cell",
    "runner.sweeping.earlier_cells",
    "runner.training.distributed.launch",
    "runner.training.loop",
    "runner.execution.ledger_entry",
    "runner.training.parts",
    "runner.training.checkpointing.resume",
    "runner.training.torch_settings",
    "runner.training.trainers",
)

SEARCHED = ("runner.search.sampling", "runner.search.study_storage", "runner.search.study")
"""What trials of a search need besides."""

_WITH_TORCHVISION = ("runner.models.from_torchvision.build", "runner.models.from_timm.build")
"""What builds models with torchvision, which imports torch's compiler."""


def modules_for(configs: Iterable[RunConfig], *, searched: bool = False) -> tuple[str, ...]:
    """What the processes of these runs are forked from has imported, and hence each of them holds in memory.

    ``searched`` says that they are the trials of a search.
    """
    return (*MODULES, *(SEARCHED if searched else ()), *slow_modules(configs))


def slow_modules(configs: Iterable[RunConfig]) -> tuple[str, ...]:
    """What some of these runs import late and is slow: a second and more, which a sweep of other runs does not pay."""
    found = set()
    for config in configs:
        if config.model.target in _WITH_TORCHVISION:
            found |= {COMPILER, "torchvision"}
        if config.hardware.compile:
            found.add(COMPILER)
        if config.privacy.enabled:
            found |= {"dp_accounting.pld.privacy_loss_distribution", "runner.training.gradients.private_parts"}
        if config.tracker.target == "runner.records.wandb_sink.WandbSink":
            found |= {"wandb", "runner.records.wandb_sink"}
    return tuple(sorted(found))
