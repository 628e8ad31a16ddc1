"""Several new processes that do one thing together: started, told to end, and ended when one of them fails."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from runner.config.untrusted.user_code import with_place
from runner.errors import ExitCode, RequestError, RunError
from runner.processes.signals import WATCHED, block_signals, end_quietly, signals_forwarded

_GRACE_SECONDS = 20.0
"""Time that the surviving processes get to end by themselves once one has died."""
_ENDED_BY_SIGNAL = (*(-number for number in WATCHED), -signal.SIGKILL)
"""Exit codes of processes that had no handlers of their own yet, or were asked twice."""


def spawn(
    work: Callable[..., Any],
    *arguments: Any,
    processes: int,
    failures: Path,
    handles_signals: bool = False,
) -> Any:
    """Call ``work(*arguments)`` in ``processes`` new processes; the first one's result, which must be small.

    ``work`` is a function of a module and ``arguments`` can be pickled.  Each process finds its number in the variables
    ``RANK`` and ``LOCAL_RANK`` of its environment, as from torchrun, and ends when this one is killed.

    Args:
        work: what each of them does.
        arguments: of ``work``.
        processes: how many.
        failures: file to which tracebacks are appended.
        handles_signals: whether ``work`` saves what it has when it is asked to end, so that its result says what came
            of it.

    Raises:
        RequestError: what the first process to fail refused.
        RunError: a process failed or died; the others have been ended.
        KeyboardInterrupt: a watched signal ended them, or came when they had done what does not handle it, or two did.
    """
    # Its lock starts the tracker of multiprocessing, which unblocks SIGINT: not to happen within ``block_signals``.
    results = mp.get_context("spawn").SimpleQueue()
    pids: list[int] = []

    def send(number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # ended meanwhile
                os.kill(pid, number)

    # from before they are started: blocked in this thread, a signal may still come to another one of this process
    with signals_forwarded(send) as forwarding:
        with block_signals():
            ranks = start_processes(
                _rank_main,
                (work, arguments, processes, failures, results),
                nprocs=processes,
                join=False,
                start_method="spawn",
            )
            assert ranks is not None
        pids += ranks.pids()
        forwarding.repeat()
        try:
            while not ranks.join(timeout=1.0, grace_period=_GRACE_SECONDS):
                pass
        except (ProcessExitedException, ProcessRaisedException) as error:
            if forwarding.heard and any(process.exitcode in _ENDED_BY_SIGNAL for process in ranks.processes):
                # what the others say is that they have lost that one
                raise KeyboardInterrupt(forwarding.heard[0].name) from error
            # The process that failed first has put its reason before it ended; one that was killed has not.
            if not results.empty():
                refusal: RequestError | RunError = results.get()
                raise refusal from None
            raise RunError(f"process {error.error_index} of {processes} died ({error})") from error
    # not before the handlers are gone: whatever came to them is in the list
    if forwarding.heard and not handles_signals:
        raise KeyboardInterrupt(forwarding.heard[0].name)
    return results.get()


def _rank_main(
    rank: int, work: Callable[..., Any], arguments: tuple[Any, ...], processes: int, failures: Path, results: Any
) -> None:
    # A terminal's Ctrl-C goes to the whole process group; the parent alone shall get it and pass it on once.
    os.setpgrp()
    end_quietly()
    sizes = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), **sizes}
    try:
        result = work(*arguments)
    except RequestError as error:
        results.put(error)
        raise SystemExit(ExitCode.WRONG_REQUEST) from error
    except Exception as error:
        log_failure(failures, rank)
        kind = "" if isinstance(error, RunError) else f"{type(error).__name__}: "
        line = " ".join(f"{kind}{error}".split()) or type(error).__name__
        placed = with_place(line, error)
        results.put(RunError(line if placed == line else f"{placed}; the traceback is in {failures}"))
        raise SystemExit(ExitCode.FAILED) from error
    if rank == 0:
        results.put(result)


def log_failure(failures: Path, rank: int) -> None:
    """Append the traceback of this process to a file: the log takes the first process's alone."""
    with failures.open("a", encoding="utf-8") as file:
        file.write(f"process {rank}\n{traceback.format_exc()}\n")
