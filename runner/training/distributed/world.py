"""The processes that share a run: one, or several joined by Accelerate.

A logical batch is distributed round-robin (process r takes examples r, r + size, ...), each process adds up the
*sums* of its share, and the shares are summed.  So n processes compute the update that one would, whatever the
remainder, and a process whose share is empty takes part with zeros instead of leaving the others waiting.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from runner.internals.accelerate_state import forget_processes
from runner.internals.compiler import load_compiler


class World(Protocol):
    """What the loop asks of the processes."""

    rank: int
    """Number of this process, from 0."""
    size: int
    """Number of processes."""
    device: torch.device
    """Device of this process."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        ...

    def sum_(self, tensor: torch.Tensor, flags: Sequence[bool] = ()) -> list[bool]:
        """Replace ``tensor`` by its sum over the processes; each process holds the same bits afterwards.

        The last ``len(flags)`` elements of ``tensor`` are room for the flags, so that they need no message of their
        own.

        Returns:
            For each flag whether it is true in at least one process.
        """
        ...

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in at least one process."""
        ...

    def broadcast(self, obj: Any) -> Any:
        """The object of process 0, in every process."""
        ...

    def gather(self, obj: Any) -> list[Any]:
        """The objects of all processes in their order, in every process."""
        ...

    def barrier(self) -> None:
        """Wait until every process is here."""
        ...

    def close(self) -> None:
        """Leave the process group."""
        ...


class SingleProcess:
    """A world of one: every operation is free."""

    rank = 0
    size = 1
    is_main = True

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def sum_(self, tensor: torch.Tensor, flags: Sequence[bool] = ()) -> list[bool]:
        """Nothing to add."""
        return list(flags)

    def any(self, flag: bool) -> bool:
        """``flag`` itself."""
        return flag

    def broadcast(self, obj: Any) -> Any:
        """``obj`` itself."""
        return obj

    def gather(self, obj: Any) -> list[Any]:
        """``obj`` alone."""
        return [obj]

    def barrier(self) -> None:
        """Nobody to wait for."""

    def close(self) -> None:
        """Nothing to leave."""


class AccelerateProcesses:
    """Several processes, found and joined by ``accelerate.PartialState`` (torchrun, accelerate launch, own ranks)."""

    def __init__(self, *, cpu: bool, init_method: str | None = None) -> None:
        """Joins the group that the environment describes (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``).

        ``init_method`` replaces ``MASTER_ADDR`` and ``MASTER_PORT``; see ``torch.distributed.init_process_group``.
        """
        import warnings

        # The first optimizer imports this module, and a default argument in it would then hold the group for ever:
        # its threads would outlive `close` and now and then abort the process while the interpreter shuts down.
        load_compiler()
        from accelerate import PartialState, utils

        group: dict[str, Any] = {}
        if init_method is not None:
            group = {"init_method": init_method, "rank": _env("RANK"), "world_size": _env("WORLD_SIZE")}
        with warnings.catch_warnings():
            # Accelerate warns that it sets the number of threads; the plan sets it again, and records it.
            warnings.filterwarnings("ignore", message="OMP_NUM_THREADS", category=UserWarning)
            self._state = PartialState(cpu=cpu, **group)
        self._gather_object = utils.gather_object
        self.rank: int = self._state.process_index
        self.size: int = self._state.num_processes
        self.device: torch.device = self._state.device
        self.is_main: bool = self._state.is_main_process
        self._hosts: Any = None if self.device.type == "cpu" else torch.distributed.new_group(backend="gloo")
        """The same processes, joined without their devices."""

    def sum_(self, tensor: torch.Tensor, flags: Sequence[bool] = ()) -> list[bool]:
        """In-place all-reduce; Accelerate's own ``reduce`` would clone the gradients first."""
        votes = tensor[len(tensor) - len(flags) :] if flags else None
        if votes is not None and self._hosts is None:
            votes.copy_(torch.tensor(flags))
        torch.distributed.all_reduce(tensor)
        if votes is None:
            return []
        if self._hosts is not None:
            # Read off the device they would hold up the program until the device has done all its work.
            votes = torch.tensor(flags, dtype=torch.float32)
            torch.distributed.all_reduce(votes, group=self._hosts)
        return [count > 0 for count in votes.tolist()]

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in at least one process."""
        votes = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(votes)
        return votes.item() > 0

    def broadcast(self, obj: Any) -> Any:
        """The object of process 0, pickled; it stays off the devices, which may have no room for it."""
        found = [obj]
        torch.distributed.broadcast_object_list(found, src=0, group=self._hosts)
        return found[0]

    def gather(self, obj: Any) -> list[Any]:
        """The objects of all processes, pickled."""
        return list(self._gather_object([obj]))

    def barrier(self) -> None:
        """Wait until every process is here."""
        self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group together, so that no process tears down connections that another still uses."""
        self.barrier()
        self._state.destroy_process_group()
        forget_processes(self._state)


def torch_device(kind: str) -> torch.device:
    """The device of a single process; its index is spelled out, so that comparisons of devices hold."""
    return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)


def _env(name: str) -> int:
    return int(os.environ[name])
