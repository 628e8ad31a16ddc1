"""Where the loop stands, for whoever shows it while it runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.records.progress import PRECISION_MARKS, Progress, Waiting
from runner.training.state import LoopState

if TYPE_CHECKING:
    from runner.planning.plan import Plan


class LoopProgress:
    """Figures that the host already has: to show them never waits for the device, and may happen in any thread."""

    def __init__(self, plan: Plan) -> None:
        """Of a run that has not begun."""
        self._plan = plan
        self.state = LoopState()
        self.done = 0
        """Updates done."""
        self.loss: float | None = None
        """Mean training loss at the latest record."""
        self.accuracy: float | None = None
        self.lr: float | None = None
        self.rate: float | None = None
        """Training examples a second, between the two latest records."""
        self._waiting: Waiting | None = Waiting("first step")
        self._lasting_since: tuple[int, float] | None = None

    def begin(self, first: int) -> None:
        """Updates start, from number ``first`` on; the first one sets up what the others use."""
        self.done, self._waiting = first, Waiting("first step")

    def first_step_done(self) -> None:
        """The time left is computed from the updates that follow."""
        self._waiting, self._lasting_since = None, (self.done, time.monotonic())

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say that the loop does ``what`` meanwhile."""
        before, self._waiting = self._waiting, Waiting(what)
        try:
            yield
        finally:
            self._waiting = before

    def now(self) -> Progress:
        """Where the run stands at this moment."""
        return self._progress(self.loss, self.accuracy)

    def at_end_of_epoch(self) -> Progress:
        """Where it stands after the last update of an epoch, with the training loss and accuracy over that epoch."""
        return self._progress(self.state.train_loss, self.state.train_accuracy)

    def _progress(self, loss: float | None, accuracy: float | None) -> Progress:
        plan, privacy = self._plan, self._plan.semantic.privacy
        steps = plan.semantic.steps
        return Progress(
            step=self.done,
            steps=steps,
            epoch=plan.epoch_of(max(0, self.done - 1)),
            epochs=plan.epoch_of(steps - 1),
            loss=loss,
            accuracy=accuracy,
            val_loss=self.state.val_loss,
            val_accuracy=self.state.val_accuracy,
            lr=self.lr,
            precision=PRECISION_MARKS[plan.semantic.precision.dtype],
            samples_per_second=self.rate,
            seconds_left=self._seconds_left(),
            epsilon=self.state.epsilon,
            delta=None if privacy is None else privacy.delta,
            waiting=self._waiting,
        )

    def _seconds_left(self) -> float | None:
        """By the wall time of the updates after the first one of this session, evaluations and saves included."""
        if self._lasting_since is None or self.done <= self._lasting_since[0]:
            return None
        step, since = self._lasting_since
        return (time.monotonic() - since) / (self.done - step) * (self._plan.semantic.steps - self.done)
