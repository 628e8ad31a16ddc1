"""How much memory a plan's updates take: on a GPU as its allocator counts, on a CPU in a process of its own.

The resident set of a process says nothing about what a part of it needs once the allocator has kept memory of earlier
parts.  So a helper process, ``python -m runner.autotune.peak_memory``, imports what the run has imported, opens the
run's data and computes nothing; for each question it forks, the child does the run in short, and the growth of its
resident set is the answer.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from runner.errors import RequestError, RunError, TooFewExamples
from runner.processes.signals import block_signals, end_quietly

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runner.config.schema import DataConfig
    from runner.data.images import ImageData
    from runner.plan.plan import Plan


TOO_FEW = 0
"""The answer for micro-batches of which BatchNorm has no statistics: larger ones may do."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What of a run, beside its plan, takes memory."""

    data: DataConfig
    tracker: str | None
    """Module that its tracker will import."""
    modules: tuple[str, ...]
    """Those of this package that it has imported, and the others with them."""


class PeakMemory:
    """Answers for one device; a context that ends the helper process."""

    def __init__(self, device: str, data: DataConfig, *, tracker: str | None = None) -> None:
        """``device``: ``cpu``, ``cuda`` or ``mps``, of which the last is measured like the first.

        ``data`` are the run's, and ``tracker`` is the module that its tracker will import.
        """
        self._device = device
        modules = tuple(sorted(name for name in sys.modules if name.startswith("runner.")))
        self._run = RunFacts(data=data, tracker=tracker, modules=modules)
        self._helper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PeakMemory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._helper is not None:
            with self._helper:  # closes its pipes, which ends it
                self._helper = None

    def of(self, plan: Plan) -> int | None:
        """Bytes that updates of ``plan`` need beyond what a process holds before them.

        None for more than there is; ``TOO_FEW`` for none that can be done.

        Raises:
            RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
            RunError: the helper process has died.
        """
        if self._device == "cuda":
            return _device_growth(plan)
        helper = self._start()
        assert helper.stdin is not None
        assert helper.stdout is not None
        pickle.dump(plan, helper.stdin)
        helper.stdin.flush()
        try:
            answer = pickle.load(helper.stdout)
        except EOFError as error:
            raise RunError("the process that measures memory has died") from error
        if isinstance(answer, RequestError):
            raise answer
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._helper is None:
            with block_signals():
                self._helper = subprocess.Popen(
                    [sys.executable, "-m", __name__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            assert self._helper.stdin is not None
            pickle.dump(self._run, self._helper.stdin)
        return self._helper


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


def _process_growth(plan: Plan, run: RunFacts, data: ImageData, held: NDArray[np.int64]) -> int | None:
    """In the fork of a process that has computed nothing yet and holds the pages ``held`` of files."""
    import torch

    from runner.autotune.memory_probe import run_in_short
    from runner.autotune.resident_pages import bytes_in_both, file_pages
    from runner.data.cache.folder_cache import scratch_folder
    from runner.records.environment import peak_memory_bytes, reset_peak_memory

    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_bytes(cpu)
    inherited = bytes_in_both(held, file_pages())
    if run.tracker is not None:
        importlib.import_module(run.tracker)
    try:
        with scratch_folder(run.data.cache_dir) as scratch:
            unread = run_in_short(plan, data, scratch)
    except TooFewExamples:
        return TOO_FEW
    except RunError:
        return None
    peak = peak_memory_bytes(cpu)
    taken_anew = bytes_in_both(held, file_pages()) - inherited
    return None if unread is None else peak - before - taken_anew + unread


def _answer_in_child(plan: Plan, run: RunFacts, data: ImageData, held: NDArray[np.int64]) -> object:
    """``_process_growth``, or the refusal, from a fork of this process; None when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer: object = _process_growth(plan, run, data, held)
        except RequestError as refusal:
            answer = refusal
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(content) if content else None


def _main() -> None:
    end_quietly()
    import torch

    from runner.autotune.resident_pages import file_pages
    from runner.data.open import open_data

    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # what a library prints must not stand between the answers
    os.dup2(2, 1)
    run: RunFacts = pickle.load(questions)
    for module in run.modules:
        importlib.import_module(module)
    torch.set_num_threads(1)
    data = open_data(run.data)
    held = file_pages()
    while True:
        try:
            plan = pickle.load(questions)
        except EOFError:
            return
        pickle.dump(_answer_in_child(plan, run, data, held), answers)
        answers.flush()


if __name__ == "__main__":
    _main()
