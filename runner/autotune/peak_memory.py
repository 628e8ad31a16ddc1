"""The peak memory of a plan's updates: from the allocator on a GPU, from a separate process on a CPU.

The resident set of a process says nothing about what a part of it needs once the allocator has kept memory of earlier
parts.  So a fork server imports what the run has imported, opens the run's data and computes nothing; for each question
it forks, the child does the run in short, and the growth of its resident set is the answer.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from runner.errors import RunError, TooFewExamples
from runner.processes.fork_server import EndedEarly, ForkServer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runner.config.schema import DataConfig
    from runner.data.images import ImageData
    from runner.plan.plan import Plan


TOO_FEW = 0
"""The answer for micro-batches of which BatchNorm has no statistics: larger ones may do."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a run holds before its parts are built, in the process that is forked from."""

    data: ImageData
    scratch_dir: str | None
    """``data.cache_dir``."""
    tracker: str | None
    """Module that its tracker will import."""
    pages: NDArray[np.int64]
    """Those of files."""


_run: list[_Run] = []
"""One in a fork server of ``PeakMemory`` and in what is forked from it, none elsewhere."""


class PeakMemory:
    """Answers for one device; a context that ends the fork server."""

    def __init__(self, device: str, data: DataConfig, *, tracker: str | None = None) -> None:
        """``device``: ``cpu``, ``cuda`` or ``mps``, of which the last is measured like the first.

        ``data`` are the run's, and ``tracker`` is the module that its tracker will import.
        """
        self._device = device
        self._open = functools.partial(_open_run, data, tracker)
        self._server: ForkServer | None = None

    def __enter__(self) -> PeakMemory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()

    def of(self, plan: Plan) -> int | None:
        """Bytes that updates of ``plan`` need beyond what a process holds before them.

        None for more than there is; ``TOO_FEW`` for none that can be done.

        Raises:
            RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
            RunError: the fork server has died.
        """
        if self._device == "cuda":
            return _device_growth(plan)
        if self._server is None:
            # those of this package that the run has imported, and the others with them
            modules = sorted(name for name in sys.modules if name.startswith("runner."))
            self._server = ForkServer(modules, initializer=self._open)
        try:
            return self._server.call(_process_growth, plan)
        except EndedEarly:  # ended by the kernel
            return None


def _device_growth(plan: Plan) -> int | None:
    import torch

    from runner.autotune.probe import give_back_memory, measure_steps

    give_back_memory()
    before = torch.cuda.memory_allocated()
    try:
        cost = measure_steps(plan, seconds=0, least=1, most=1)
    except TooFewExamples:
        return TOO_FEW
    except RunError:
        return None
    finally:
        give_back_memory()
    return cost.peak_bytes - before if cost.fits else None


def _open_run(data: DataConfig, tracker: str | None) -> None:
    """In the fork server: hold what a run holds before its parts are built."""
    import torch

    from runner.autotune.resident_pages import file_pages
    from runner.data.open import open_data

    # what a library prints is no output of the command
    os.dup2(2, 1)
    torch.set_num_threads(1)
    opened = open_data(data)
    _run.append(_Run(data=opened, scratch_dir=data.cache_dir, tracker=tracker, pages=file_pages()))


def _process_growth(plan: Plan) -> int | None:
    """In the fork of a process that has computed nothing yet."""
    import torch

    from runner.autotune.memory_probe import run_in_short
    from runner.autotune.resident_pages import bytes_in_both, file_pages
    from runner.data.cache.folder_cache import scratch_folder
    from runner.records.environment import peak_memory_bytes, reset_peak_memory

    (run,) = _run
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_bytes(cpu)
    inherited = bytes_in_both(run.pages, file_pages())
    if run.tracker is not None:
        importlib.import_module(run.tracker)
    try:
        with scratch_folder(run.scratch_dir) as scratch:
            unread = run_in_short(plan, run.data, scratch)
    except TooFewExamples:
        return TOO_FEW
    except RunError:
        return None
    peak = peak_memory_bytes(cpu)
    taken_anew = bytes_in_both(run.pages, file_pages()) - inherited
    return None if unread is None else peak - before - taken_anew + unread
