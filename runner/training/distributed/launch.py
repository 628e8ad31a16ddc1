"""Several processes for one run: started here, or started by torchrun or ``accelerate launch``.

Hydra composes once, in one process, and the result is handed to the others.  Otherwise every rank would make an
output folder of its own and compose a configuration that nobody compares with the first.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.errors import ExitCode, RequestError, RunError
from runner.planning.device import detect_device
from runner.processes.spawn import log_failure, spawn
from runner.training.distributed.agreement import raised_on_all, refuse_differences
from runner.training.distributed.world import AccelerateProcesses, World

if TYPE_CHECKING:
    from runner.config.schema import HardwareConfig
    from runner.execution.job import Job, JobResult
    from runner.planning.device import Device

RunJob = Callable[["Job", World, "Device"], "JobResult"]
"""What each process does: ``runner.execution.job.run_rank``, which stands above this module."""


def start_processes(job: Job, device: Device, processes: int, run: RunJob) -> JobResult:
    """Run ``job`` in ``processes`` new processes on this machine and wait for them.

    Raises:
        RequestError: more processes than devices, or whatever the first process refused.
        RunError: a process failed or died; the others have been ended.
        KeyboardInterrupt: a watched signal ended them before they could handle it.
    """
    hardware, failures = job.config.hardware, job.run_dir / "failures.log"
    return share_work(
        run, job, hardware=hardware, device=device, processes=processes, failures=failures, handles_signals=True
    )


def share_work(
    work: Callable[[Any, World, Device], Any],
    job: Any,
    *,
    hardware: HardwareConfig,
    device: Device,
    processes: int,
    failures: Path,
    handles_signals: bool = False,
) -> Any:
    """Call ``work(job, world, device)`` in ``processes`` new processes; the first one's result, which must be small.

    ``work`` is a function of a module and ``job`` can be pickled.  Tracebacks go to the file ``failures``.  Where
    ``work`` handles signals itself: its result says what came of them.

    Raises:
        RequestError: more processes than devices, or whatever the first process refused.
        RunError: a process failed or died; the others have been ended.
        KeyboardInterrupt: a watched signal ended them, or came while they did what does not handle it, or two did.
    """
    if device.kind != "cpu" and processes > device.count:
        raise RequestError("hardware.processes", processes, f"at most {device.count}, one per {device.kind} device")
    with tempfile.TemporaryDirectory(prefix="recipe-runner-") as folder:
        rendezvous = f"file://{Path(folder) / 'rendezvous'}"
        return spawn(
            _share,
            work,
            job,
            hardware,
            rendezvous,
            processes=processes,
            failures=failures,
            handles_signals=handles_signals,
        )


def _share(work: Callable[[Any, World, Device], Any], job: Any, hardware: HardwareConfig, rendezvous: str) -> Any:
    device = detect_device(hardware)
    world = AccelerateProcesses(cpu=device.kind == "cpu", init_method=rendezvous)
    result = work(job, world, device)
    world.close()
    return result


class _Group:
    """The process group of a launch from outside; it outlives the runs of a multirun."""

    world: AccelerateProcesses | None = None
    in_step = True
    """Whether every process has ended the last run at the same point, so that they can begin another."""

    @classmethod
    def join(cls) -> AccelerateProcesses:
        if cls.world is None:
            cls.world = AccelerateProcesses(cpu=_on_cpu())
        return cls.world


def _on_cpu() -> bool:
    """What every process must answer alike before the first one has told them the configuration."""
    return not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def lead_followers(job: Job, run: RunJob) -> JobResult:
    """As the first process of a launch from outside: hand ``job`` to the others and take part.

    Raises:
        RequestError: see ``runner.execution.job.run_job``; or the trainer is one for a single process.
    """
    device = detect_device(job.config.hardware)
    if (device.kind == "cpu") != _on_cpu():
        raise RequestError(
            "hardware.device",
            f"{device.kind} under a launcher that joins {'CPU' if _on_cpu() else 'CUDA'} processes",
            "ACCELERATE_USE_CPU=true in the environment of every process, or hardware=auto",
        )
    if job.config.trainer.name not in ("accelerate", "dp"):
        raise RequestError(
            "trainer",
            f"{job.config.trainer.name} in {os.environ['WORLD_SIZE']} processes",
            "trainer=accelerate or trainer=dp",
        )
    started = os.environ["WORLD_SIZE"]
    if job.config.hardware.processes not in (None, 1, int(started)):  # 1 is what it is where nobody says anything
        raise RequestError(
            "hardware.processes",
            f"{job.config.hardware.processes} under a launcher that started {started} processes",
            f"{started}, or 1 or null, which leave it to the launcher",
        )
    if not _Group.in_step:
        raise RunError("the processes of this launch are out of step after a failure; start the sweep again")
    if _Group.world is None:
        _refuse_other_command(_Group.join())
    world = _Group.join()
    world.broadcast(job)
    _Group.in_step = False
    try:
        result = run(job, world, device)
    except Exception as error:
        _Group.in_step = raised_on_all(error)
        raise
    _Group.in_step = True
    return result


def release_followers() -> None:
    """Tell the other processes that there is no further run, and leave the group.

    After a failure they may be waiting elsewhere: then this process ends alone and the launcher stops the others.
    """
    if _Group.world is not None and _Group.world.is_main and _Group.in_step:
        _Group.world.broadcast(None)
        _Group.world.close()
        _Group.world = None


def follow(run: RunJob) -> int:
    """As any but the first process of a launch from outside: take part in each run that the first one hands out.

    Returns:
        The exit code: that of the last run.
    """
    world = _Group.join()
    code = ExitCode.DONE
    try:
        _refuse_other_command(world)
    except RequestError:
        code = ExitCode.WRONG_REQUEST
    while (job := _next_job(world)) is not None:
        try:
            code = run(job, world, detect_device(job.config.hardware)).exit_code
        except Exception as error:
            if not raised_on_all(error):  # the others wait elsewhere, and notice that this process has gone
                if job.run_dir.is_dir():
                    log_failure(job.run_dir / "failures.log", world.rank)
                raise RunError(f"process {world.rank}: {type(error).__name__}: {error}") from error
            # the first process meets the same and tells the user
            code = ExitCode.WRONG_REQUEST if isinstance(error, RequestError) else ExitCode.FAILED
    world.close()
    return code


def _next_job(world: World) -> Job | None:
    try:
        job: Job | None = world.broadcast(None)
    except RuntimeError as error:  # of its connection
        raise RunError(f"process {world.rank}: the first process has gone") from error
    return job


def _refuse_other_command(world: World) -> None:
    """The first process's command counts; what another was told besides would be ignored.

    Raises:
        RequestError: in every process.
    """
    refuse_differences(world, {"command": [word for word in sys.orig_argv[1:] if "=" in word]})
