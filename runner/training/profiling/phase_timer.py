"""A timer of the phases of a step: a few steps of every run, and the trace of a profile.

The step and its gradient rule say ``enter(phase)`` when a phase begins.  In most steps that does nothing; in some it
takes the time, which costs 40 us on a CPU and a handful of CUDA events on a GPU, which is never waited for.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.profiler import record_function

from runner.records.step_time import PHASES, Phase, StepTime

Enter = Callable[[Phase], None]
"""Says that a phase begins."""

EVERY = 5
"""Steps from one that is timed to the next, unless a profile is asked for, so that a short run has enough of them."""

EVERY_LATER = 25
"""The same after the first ``EARLY`` steps, so that it costs a long run of a tiny model less than 1 % of its time."""

EARLY = 200

FIRST = 2
"""The first that may be timed: those before pay for lazy set-up."""

SPAN = "step: "
"""How the name of a phase begins in a trace."""


def unobserved(phase: Phase) -> None:
    """The ``Enter`` of a rule that is used outside of a run."""


class PhaseTimer:
    """Adds up the time of the phases of some steps."""

    def __init__(self, device: torch.device, *, every: int | None = EVERY) -> None:
        """``every``: steps from one that is timed to the next, at first; 1 times them all, None none."""
        self._device = device
        self._every = every
        self._seen = 0
        self._next = FIRST
        self._marks: list[tuple[Phase, Any]] | None = None
        self._unread: list[list[tuple[Phase, Any]]] = []
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._steps = 0
        self._span: Any = None
        self.naming = False
        """Whether phases are named in the trace of a profiler, and no time is taken."""

    def begin(self) -> None:
        """A step begins, with the phase ``other``."""
        if self.naming:
            self.enter("other")
        elif self._every is not None and self._seen >= self._next:
            self._next = self._seen + (self._every if self._every == 1 or self._seen < EARLY else EVERY_LATER)
            if not self._is_capturing():
                self._marks = []
                self.enter("other")
        self._seen += 1

    def enter(self, phase: Phase) -> None:
        """The phase before ends and ``phase`` begins."""
        if self._marks is not None:
            self._marks.append((phase, self._now()))
        elif self.naming:
            self._name(phase)

    def end(self) -> None:
        """The step ends."""
        if self._marks is not None:
            self._marks.append(("other", self._now()))
            self._unread.append(self._marks)
            self._marks = None
            self._add_up()
        elif self._span is not None:
            self._name(None)

    def naming_the_end_of(self, forward: Callable[[], AbstractContextManager[Any]]) -> Callable[[], Any]:
        """``forward``, a context around the forward pass, after which ``backward`` begins."""

        def around() -> AbstractContextManager[Any]:
            return forward() if self._marks is None and not self.naming else self._then_backward(forward())

        return around

    @contextmanager
    def _then_backward(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        with context:
            yield
        self.enter("backward")

    def read(self) -> StepTime | None:
        """What was found in the steps that the device has done; None before the first."""
        self._add_up()
        return StepTime.of(self._seconds, steps=self._steps) if self._steps else None

    def _add_up(self) -> None:
        """Add the steps that the device has done; a GPU may be steps behind."""
        on_gpu = self._device.type == "cuda"
        while self._unread and (not on_gpu or self._unread[0][-1][1].query()):
            marks = self._unread.pop(0)
            for (phase, start), (_, stop) in itertools.pairwise(marks):
                self._seconds[phase] += start.elapsed_time(stop) / 1e3 if on_gpu else stop - start
            self._steps += 1

    def _now(self) -> Any:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event
        if self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def _is_capturing(self) -> bool:
        """Whether the step is being recorded into a CUDA graph, in which an event has no time."""
        return self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()

    def _name(self, phase: Phase | None) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)
        self._span = None if phase is None else record_function(f"{SPAN}{phase}")
        if self._span is not None:
            self._span.__enter__()
