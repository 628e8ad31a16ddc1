"""Launchers that start several processes of one command: what each tells a process of its place among the others.

torchrun and ``accelerate launch`` say it by ``RANK`` and ``WORLD_SIZE``, which the rest of the code reads.  mpirun (of
Open MPI, MPICH, Intel MPI, MVAPICH) and srun of Slurm have variables of their own, which ``adopt_launch`` translates.
"""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from runner.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Variables of one launcher."""

    launcher: str
    size: str
    rank: str
    local_size: str | None
    local_rank: str
    job: str | None
    """What all processes of a launch, and no others, have in common; None where only their parent is."""


_LAUNCHERS = (
    _Names(
        launcher="mpirun",
        size="OMPI_COMM_WORLD_SIZE",
        rank="OMPI_COMM_WORLD_RANK",
        local_size="OMPI_COMM_WORLD_LOCAL_SIZE",
        local_rank="OMPI_COMM_WORLD_LOCAL_RANK",
        job="PMIX_NAMESPACE",
    ),
    _Names(
        launcher="mpirun",
        size="MV2_COMM_WORLD_SIZE",
        rank="MV2_COMM_WORLD_RANK",
        local_size="MV2_COMM_WORLD_LOCAL_SIZE",
        local_rank="MV2_COMM_WORLD_LOCAL_RANK",
        job="MPIRUN_ID",
    ),
    # of the step: a batch script, which is one process, sees the SLURM_NTASKS of its job
    _Names(
        launcher="srun",
        size="SLURM_STEP_NUM_TASKS",
        rank="SLURM_PROCID",
        local_size=None,
        local_rank="SLURM_LOCALID",
        job="SLURM_JOB_ID",
    ),
    _Names(
        launcher="mpirun",
        size="PMI_SIZE",
        rank="PMI_RANK",
        local_size="MPI_LOCALNRANKS",
        local_rank="MPI_LOCALRANKID",
        job=None,  # PMI_ID, where it is set, is the rank
    ),
)

_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process as one of several."""
    return int(environment.get("WORLD_SIZE", "1")) > 1


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the first process of its launch, or the only one."""
    return not launched(environment) or environment.get("RANK", "0") == "0"


def adopt_launch(environment: MutableMapping[str, str] = os.environ) -> None:
    """Say by torchrun's variables what another launcher says by its own; torchrun's own have the last word.

    Raises:
        RequestError: the processes are on several machines, and nothing says where the first one is.
    """
    if "WORLD_SIZE" in environment:
        return
    for names in _LAUNCHERS:
        if int(environment.get(names.size, "1")) > 1 and names.rank in environment:
            _adopt(environment, names)
            return


def ignore_launcher(environment: MutableMapping[str, str] = os.environ) -> int:
    """Be a process of its own from here on; how many there were."""
    size = int(environment.get("WORLD_SIZE", "1"))
    for name in _PLACE:
        environment.pop(name, None)
    return size


def local_processes(processes: int, environment: Mapping[str, str] = os.environ) -> int:
    """How many of ``processes`` are on this machine and share its cores."""
    return min(processes, int(environment.get("LOCAL_WORLD_SIZE", processes)))


def _adopt(environment: MutableMapping[str, str], names: _Names) -> None:
    size = environment[names.size]
    local_rank = environment.get(names.local_rank, environment[names.rank])
    local_size = _tasks_here(environment) if names.local_size is None else environment.get(names.local_size, size)
    if "MASTER_ADDR" not in environment:
        environment["MASTER_ADDR"] = "127.0.0.1" if local_size == size else _first_host(environment, names, size)
    if "MASTER_PORT" not in environment:
        # the same in all processes and another one in the next launch, from what a launch calls itself
        launch = os.getppid() if names.job is None else environment.get(names.job, os.getppid())
        own = f"{launch}.{environment.get('SLURM_STEP_ID', '')}"
        environment["MASTER_PORT"] = str(20_000 + zlib.crc32(own.encode()) % 10_000)
    place = (environment[names.rank], size, local_rank, local_size)
    environment.update(zip(_PLACE, place, strict=True))


def _tasks_here(environment: Mapping[str, str]) -> str:
    """Of a list as ``2(x3),1``, tasks on each node, this node's."""
    counts: list[str] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", environment["SLURM_STEP_NUM_TASKS"]).split(","):
        count, _, times = part.partition("(x")
        counts += [count] * int(times.rstrip(")") or "1")
    return counts[min(int(environment.get("SLURM_NODEID", "0")), len(counts) - 1)]


def _first_host(environment: Mapping[str, str], names: _Names, size: str) -> str:
    if (nodes := environment.get("SLURM_STEP_NODELIST")) is not None:
        command = ["scontrol", "show", "hostnames", nodes]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            pass  # asked for below
    raise RequestError(
        "MASTER_ADDR",
        f"nothing, for {size} processes of {names.launcher} on several machines",
        "the address of the first one's machine, in the environment of each; torchrun says it by --master-addr",
    )
