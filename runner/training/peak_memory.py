"""How much memory a plan's updates take: on a GPU as its allocator counts, on a CPU in a process of its own.

The resident set of a process says nothing about what a part of it needs once the allocator has kept memory of earlier
parts.  So a helper process, ``python -m runner.training.peak_memory``, imports what a run imports and computes nothing;
for each question it forks, the child does a few updates, and the growth of its resident set is the answer.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from runner.config.errors import RequestError, RunError

if TYPE_CHECKING:
    from runner.plan.plan import Plan


class PeakMemory:
    """Answers for one device; a context that ends the helper process."""

    def __init__(self, device: str) -> None:
        """``device``: ``cpu``, ``cuda`` or ``mps``, of which the last is measured like the first."""
        self._device = device
        self._helper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PeakMemory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._helper is not None:
            with self._helper:  # closes its pipes, which ends it
                self._helper = None

    def of(self, plan: Plan) -> int | None:
        """Bytes that updates of ``plan`` need beyond what a process holds before them; None for more than there is.

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
            self._helper = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        return self._helper


def _device_growth(plan: Plan) -> int | None:
    import torch

    from runner.training.probe import give_back_memory, measure_steps

    give_back_memory()
    before = torch.cuda.memory_allocated()
    try:
        cost = measure_steps(plan, seconds=0, least=1, most=1)
    except RunError:
        return None
    finally:
        give_back_memory()
    return cost.peak_bytes - before if cost.fits else None


def _process_growth(plan: Plan) -> int | None:
    """In a process that has computed nothing yet."""
    import torch

    from runner.records.environment import peak_memory_bytes, reset_peak_memory
    from runner.training.probe import stepping

    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_bytes(cpu)
    try:
        with stepping(plan) as stepper:
            stepper.step()
            stepper.hold()
            # this one meets the optimizer's state as well
            stepper.step()
            return peak_memory_bytes(cpu) - before if stepper.fits else None
    except RunError:
        return None


def _answer_in_child(plan: Plan) -> object:
    """``_process_growth``, or the refusal, from a fork of this process; None when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer: object = _process_growth(plan)
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


def import_what_a_run_does() -> None:
    """Load the libraries that the parts of a run load late, so that they count in what a process holds before."""
    import torch._dynamo  # noqa: F401  # the first optimizer imports it
    import torchvision  # noqa: F401

    from runner.training.probe import stepping  # noqa: F401


def _main() -> None:
    import torch

    import_what_a_run_does()
    torch.set_num_threads(1)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # what a library prints must not stand between the answers
    os.dup2(2, 1)
    while True:
        try:
            plan = pickle.load(questions)
        except EOFError:
            return
        pickle.dump(_answer_in_child(plan), answers)
        answers.flush()


if __name__ == "__main__":
    _main()
