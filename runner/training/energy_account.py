"""The energy of a run, over its processes and the sessions that it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from runner.environment.energy import EnergyMeters, joules_of_all

if TYPE_CHECKING:
    from runner.training.distributed.world import World


class EnergyAccount:
    """Counts from the first update of a session on, evaluations, saves and the test included."""

    def __init__(self, world: World, earlier: Mapping[str, float] | None) -> None:
        """``earlier``: joules by meter up to the checkpoint that the run goes on from, or None if they are unknown."""
        self._world = world
        self._earlier = earlier
        device = world.device
        gpu = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None
        self._meters = EnergyMeters(gpu)

    def update(self) -> None:
        """Read the meters of this process."""
        self._meters.update()

    def joules(self) -> dict[str, float] | None:
        """Joules of all processes and sessions by meter; None where any session had none.  Called by all processes."""
        now = joules_of_all(self._world.gather(self._meters.joules()))
        if self._earlier is None or not now:
            return None
        return {name: self._earlier.get(name, 0.0) + now.get(name, 0.0) for name in {**self._earlier, **now}}
