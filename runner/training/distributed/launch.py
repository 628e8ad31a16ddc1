"""Several processes for one run: started here, or started by torchrun or ``accelerate launch``.

Hydra composes once, in one process, and the result is handed to the others.  Otherwise every rank would make an
output folder of its own and compose a configuration that nobody compares with the first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.multiprocessing.spawn import start_processes as spawn

from runner.config.untrusted.user_code import with_place
from runner.errors import ExitCode, RequestError, RunError
from runner.plan.device import detect_device
from runner.processes.keyboard_interrupt import WATCHED, Asked, is_ignored
from runner.processes.signals import block_signals, end_quietly
from runner.training.distributed.agreement import met_by_all, refuse_differences
from runner.training.distributed.world import AccelerateProcesses, World

if TYPE_CHECKING:
    from runner.config.schema import HardwareConfig
    from runner.plan.device import Device
    from runner.run.job import Job, JobResult

_GRACE_SECONDS = 20.0
"""Time that the surviving processes get to end by themselves once one has died."""
_ENDED_BY_SIGNAL = (*(-number for number in WATCHED), -signal.SIGKILL)
"""Exit codes of processes that had no handlers of their own yet, or were asked twice."""

Run = Callable[["Job", World, "Device"], "JobResult"]
"""What each process does: ``runner.run.job.run_rank``, which stands above this module."""


def start_processes(job: Job, device: Device, processes: int, run: Run) -> JobResult:
    """Run ``job`` in ``processes`` new processes on this machine and wait for them.

    Raises:
        RequestError: more processes than devices, or whatever the first process refused.
        RunError: a process failed or died; the others have been ended.
        KeyboardInterrupt: a watched signal ended them before they could heed it.
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
    ``work`` heeds signals, its result says what came of them.

    Raises:
        RequestError: more processes than devices, or whatever the first process refused.
        RunError: a process failed or died; the others have been ended.
        KeyboardInterrupt: a watched signal ended them, or came when they had done what does not heed it, or two did.
    """
    if device.kind != "cpu" and processes > device.count:
        raise RequestError("hardware.processes", processes, f"at most {device.count}, one per {device.kind} device")
    # Its lock starts the tracker of multiprocessing, which unblocks SIGINT: not to happen within ``block_signals``.
    results = mp.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="recipe-runner-") as folder, _signals_forwarded() as forwarding:
        rendezvous = f"file://{Path(folder) / 'rendezvous'}"
        with block_signals():
            ranks = spawn(
                _rank_main,
                (work, job, hardware, processes, rendezvous, failures, results),
                nprocs=processes,
                join=False,
                start_method="spawn",
            )
            assert ranks is not None
        forwarding.begin(ranks.pids())
        try:
            while not ranks.join(timeout=1.0, grace_period=_GRACE_SECONDS):
                pass
        except (ProcessExitedException, ProcessRaisedException) as error:
            if forwarding.heard and any(process.exitcode in _ENDED_BY_SIGNAL for process in ranks.processes):
                # what the others say is that they have lost that one
                raise KeyboardInterrupt(forwarding.heard[0].name) from error
            # The process that failed first has put its reason before it ended; one that was killed has not.
            if not results.empty():
                _raise(results.get())
            raise RunError(f"process {error.error_index} of {processes} died ({error})") from error
    # not before the handlers are gone: whatever came to them is in the list
    if forwarding.heard and not handles_signals:
        raise KeyboardInterrupt(forwarding.heard[0].name)
    return results.get()


def _rank_main(
    rank: int,
    work: Callable[[Any, World, Device], Any],
    job: Any,
    hardware: HardwareConfig,
    processes: int,
    rendezvous: str,
    failures: Path,
    results: Any,
) -> None:
    # A terminal's Ctrl-C goes to the whole process group; the parent alone shall get it and pass it on once.
    os.setpgrp()
    end_quietly()
    sizes = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), **sizes}
    try:
        device = detect_device(hardware)
        world = AccelerateProcesses(cpu=device.kind == "cpu", init_method=rendezvous)
        result = work(job, world, device)
        world.close()
    except RequestError as error:
        results.put(error)
        raise SystemExit(ExitCode.WRONG_REQUEST) from error
    except Exception as error:
        _log_failure(failures, rank)
        kind = "" if isinstance(error, RunError) else f"{type(error).__name__}: "
        line = " ".join(f"{kind}{error}".split()) or type(error).__name__
        told = with_place(line, error)
        results.put(RunError(line if told == line else f"{told}; the traceback is in {failures}"))
        raise SystemExit(ExitCode.FAILED) from error
    if rank == 0:
        results.put(result)


class _Forwarding:
    """Passes on to processes what this one is told while it waits for them.

    The first signal goes as SIGUSR1, which also ends a process that does not listen yet, and is no insisting where
    schedulers have told each process themselves; who insists ends them at once, wherever they are.
    """

    def __init__(self) -> None:
        self.heard: list[signal.Signals] = []
        self._asked = Asked()
        self._pids: list[int] = []
        self._to_send = [signal.SIGUSR1]

    def begin(self, pids: list[int]) -> None:
        """The processes have been started: pass on what has come by now, too."""
        self._pids = pids
        self._pass_on()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler of the watched signals."""
        self.heard.append(signal.Signals(number))
        if self._asked.hear(number):
            self._to_send.append(signal.SIGKILL)
        self._pass_on()

    def _pass_on(self) -> None:
        while self.heard and self._pids and self._to_send:
            own = self._to_send.pop(0)
            for pid in self._pids:
                with contextlib.suppress(ProcessLookupError):  # ended meanwhile
                    os.kill(pid, own)


@contextlib.contextmanager
def _signals_forwarded() -> Iterator[_Forwarding]:
    """Hear watched signals, which other processes are to heed, in place of whoever does otherwise.

    From before they are started: blocked in this thread, a signal may still come to another one of this process.
    """
    forwarding = _Forwarding()
    previous = {number: signal.signal(number, forwarding.hear) for number in WATCHED if not is_ignored(number)}
    try:
        yield forwarding
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise(error: RequestError | RunError) -> None:
    raise error


def _log_failure(failures: Path, rank: int) -> None:
    """Append the traceback of this process to a file: the log takes the first process's alone."""
    import traceback

    with failures.open("a", encoding="utf-8") as file:
        file.write(f"process {rank}\n{traceback.format_exc()}\n")


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


def lead_followers(job: Job, run: Run) -> JobResult:
    """As the first process of a launch from outside: hand ``job`` to the others and take part.

    Raises:
        RequestError: see ``runner.run.job.run_job``; or the trainer is one for a single process.
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
        _Group.in_step = met_by_all(error)
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


def follow(run: Run) -> int:
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
            if not met_by_all(error):  # the others wait elsewhere, and notice that this process has gone
                if job.run_dir.is_dir():
                    _log_failure(job.run_dir / "failures.log", world.rank)
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
