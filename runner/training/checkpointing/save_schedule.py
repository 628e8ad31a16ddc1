"""The schedule of saves: as asked, or as often as costs at most a fiftieth of the run's time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.training.checkpointing.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from runner.planning.plan import Plan
    from runner.training.distributed.world import World

SHARE = 0.02
"""Most of a run's time that saving may take where ``trainer.save_every`` is null."""
_GUESS_SECONDS = 0.02
"""What a save is taken to cost before there has been one."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a checkpoint holds."""

    step: int
    """Updates done."""
    best: int
    """Step of the best checkpoint, which may be this one."""
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]


class Saving:
    """Writes checkpoints when they are due, and keeps the best one in memory until then.

    An epoch may be shorter than a save.  So by default a save waits until it is cheap against the time since the
    run began; what a kill can cost is then some fifty times what a save takes.  A run that goes on after it makes the
    same updates again, hence finds the same best weights again: they may wait, too.
    """

    def __init__(self, folder: Path, plan: Plan, world: World) -> None:
        """``folder`` receives the checkpoints."""
        self._folder = folder
        self._plan = plan
        self._world = world
        self._every = plan.performance.save_every
        self._held: Snapshot | None = None
        self._begun = time.perf_counter()
        self._spent = 0.0
        self._cost = _GUESS_SECONDS

    def is_due(self, epoch: int, *, improved: bool) -> bool:
        """Whether to save after ``epoch``; the same answer in every process."""
        if self._every is not None:
            return improved or epoch % self._every == 0
        elapsed = time.perf_counter() - self._begun
        return bool(self._world.broadcast(self._spent + self._cost <= SHARE * elapsed))

    def save(self, snapshot: Snapshot) -> None:
        """Write ``snapshot``, and the best one before it if that is not on the disk yet."""
        started = time.perf_counter()
        if self._held is not None and self._held.step == snapshot.best:
            self._write(self._held)
        self._held = None
        self._write(snapshot)
        self._cost = time.perf_counter() - started
        self._spent += self._cost

    def hold(self, snapshot: Snapshot) -> None:
        """Keep a copy of the best so far for the next ``save``."""
        started = time.perf_counter()
        self._held = Snapshot(**_copied(vars(snapshot)))
        self._spent += time.perf_counter() - started

    def _write(self, snapshot: Snapshot) -> None:
        save_checkpoint(
            self._folder, identity=self._plan.identity, recipe=self._plan.identity_fields(), **vars(snapshot)
        )


def _copied(value: Any) -> Any:
    """``value`` with every tensor in it copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(inner) for inner in value)
    return value
