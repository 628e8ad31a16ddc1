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
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from runner.autotune.rehearsal import Rehearsal, give_back_memory, one_share, rehearsed_alone
from runner.autotune.resident_pages import bytes_in_both, file_pages, read_on
from runner.data.cache.folder_cache import scratch_folder
from runner.data.open import open_data
from runner.errors import RunError, TooFewExamples
from runner.processes.fork_server import EndedEarly, ForkServer
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.training.distributed.world import torch_device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runner.config.schema import DataConfig
    from runner.data.feature_feed import AnyFeed
    from runner.data.images import ImageData, ImageSet
    from runner.planning.plan import Plan


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
    give_back_memory()
    before = torch.cuda.memory_allocated()
    try:
        peak = _device_peak(plan)
    except TooFewExamples:
        return TOO_FEW
    except RunError:
        return None
    finally:
        give_back_memory()
    return None if peak is None else peak - before


def _device_peak(plan: Plan) -> int | None:
    """Most bytes in two updates on random images; None where they did not suffice."""
    device = torch_device(plan.performance.device)
    reset_peak_memory(device)
    share = one_share(plan, plan.performance.batch_size, min(plan.performance.accumulation_steps, 2))
    with rehearsed_alone(share) as rehearsal:
        for _ in range(2):
            rehearsal.update()
        return peak_memory_bytes(device) if rehearsal.fits else None


def _open_run(data: DataConfig, tracker: str | None) -> None:
    """In the fork server: hold what a run holds before its parts are built."""
    # what a library prints is no output of the command
    os.dup2(2, 1)
    torch.set_num_threads(1)
    opened = open_data(data)
    _run.append(_Run(data=opened, scratch_dir=data.cache_dir, tracker=tracker, pages=file_pages()))


def _process_growth(plan: Plan) -> int | None:
    """In the fork of a process that has computed nothing yet."""
    (run,) = _run
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_bytes(cpu)
    inherited = bytes_in_both(run.pages, file_pages())
    if run.tracker is not None:
        importlib.import_module(run.tracker)
    try:
        with (
            scratch_folder(run.scratch_dir) as scratch,
            tempfile.TemporaryDirectory(prefix=".fit-", dir=scratch) as folder,
            rehearsed_alone(plan, run.data, folder=Path(folder)) as rehearsal,
        ):
            unread = _run_in_short(rehearsal, run.data)
            fits = rehearsal.fits
    except TooFewExamples:
        return TOO_FEW
    except RunError:
        return None
    peak = peak_memory_bytes(cpu)
    taken_anew = bytes_in_both(run.pages, file_pages()) - inherited
    return peak - before - taken_anew + unread if fits else None


def _run_in_short(rehearsal: Rehearsal, data: ImageData) -> int:
    """Do what takes memory in a run, each once and in the order of a run.

    The answer is how many bytes of mapped images the run would read beyond those that were read here.
    """
    plan = rehearsal.plan
    val = None if data.val is None else rehearsal.feed(data.val)
    rehearsal.update()
    unread = read_on(data.train, rehearsal.parts.feed, 2 * plan.semantic.logical_batch)

    def evaluate(feed: AnyFeed, images: ImageSet) -> int:
        # one batch: the others take the same memory, but for the bytes of their own pixels that come back
        count = min(len(images), rehearsal.parts.sizes["evaluation"])
        rehearsal.evaluate(feed, count)
        return read_on(images, feed, count)

    if val is not None and data.val is not None:
        unread += evaluate(val, data.val)
    # after its only evaluation a run saves at once, and is tested with the weights that it has
    several = plan.epoch_of(plan.semantic.steps - 1) > 1
    waits = several and val is not None and plan.performance.save_every is None
    chooses = several and plan.semantic.test_checkpoint == "best"
    if waits:
        rehearsal.hold(rehearsal.snapshot(1, best=1))
    # this one meets the optimizer's state as well
    rehearsal.update()
    rehearsal.save(rehearsal.snapshot(2, best=1 if waits and chooses else 2))
    if data.test is not None:
        if chooses:
            rehearsal.load("best")
        unread += evaluate(rehearsal.feed(data.test), data.test)
    return unread
