"""The loop's state across checkpoints, and the result of training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runner.records.predictions import Predictions
from runner.records.run_file import STOPPED_EARLY, FinalMetrics
from runner.records.step_time import StepTime
from runner.training.gradients.micro_batch_size import Halving

if TYPE_CHECKING:
    from runner.planning.plan import Plan

FitStatus = Literal["completed", "interrupted", "pruned", "budget_exhausted"]
"""How a run that did not fail ends."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended and what it measured."""

    status: FitStatus
    metrics: FinalMetrics
    samples_per_second: float | None
    compile_seconds: float | None
    peak_bytes: int
    joules: Mapping[str, float] | None
    """By meter; None where not every session had one."""
    steps: int
    epochs: float
    skipped_steps: int
    zeroed_examples: int
    epsilon: float | None
    step_time: StepTime | None
    """Where the time of the steps went, mean over the processes; None where too few steps were made."""
    halvings: tuple[Halving, ...]
    """Times that memory ran out."""
    predictions: Mapping[str, Predictions]
    """What was answered to each image, by split, where that is kept."""
    notes: tuple[str, ...]
    """What was found on the way and the user should know."""


@dataclass(kw_only=True)
class LoopState:
    """What the loop has to remember across a kill, besides weights, optimizer and loss scale."""

    best: float | None = None
    """Best value of the monitored metric."""
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best."""
    val_loss: float | None = None
    val_accuracy: float | None = None
    best_val_loss: float | None = None
    best_val_accuracy: float | None = None
    train_loss: float | None = None
    """Mean loss over the last whole epoch."""
    train_accuracy: float | None = None
    epoch_loss: float = 0.0
    """Sum of losses in the epoch under way."""
    epoch_correct: float = 0.0
    epoch_examples: int = 0
    epsilon: float | None = None
    """Privacy spent up to the last epoch's end."""
    seconds: float = 0.0
    """Training time, evaluation and saving left out."""
    timed_examples: int = 0
    run_seconds: float = 0.0
    """Wall time of the run up to the save, set-up and evaluation included, over all its sessions."""
    peak_bytes: int = 0
    """Largest memory that the main process held up to the save, over all its sessions."""
    joules: dict[str, float] | None = field(default_factory=dict)
    """Energy up to the save by meter, over all its sessions; None where one of them had no meter."""
    not_finite: int = 0
    """Evaluations whose loss was not a number or infinite, by which nothing was chosen."""

    @classmethod
    def restored(cls, saved: dict[str, Any]) -> LoopState:
        """What a checkpoint holds; a best figure that is not finite, as former versions could choose, is none."""
        loop_state = cls(**{"joules": None} | saved)
        if loop_state.best is not None and not math.isfinite(loop_state.best):
            loop_state.best, loop_state.best_step = None, 0
            loop_state.best_val_loss = loop_state.best_val_accuracy = None
        return loop_state

    @property
    def rate(self) -> float | None:
        """Training examples a second; None where none were timed."""
        return self.timed_examples / self.seconds if self.seconds and self.timed_examples else None

    def note_memory(self, peak_bytes: int) -> int:
        """Take in the peak of this session; returns that of all."""
        self.peak_bytes = max(self.peak_bytes, peak_bytes)
        return self.peak_bytes

    def best_counts(self, plan: Plan) -> bool:
        """Whether the weights after the best evaluation so far count, rather than the last ones."""
        return plan.semantic.test_checkpoint == "best" and self.best is not None

    def take(self, loss: float, accuracy: float, *, higher: bool) -> float | None:
        """Note an evaluation; its monitored figure, the accuracy with ``higher``, or None where it is not finite.

        An accuracy beside a loss that is not finite counts answers that are no numbers.
        """
        self.val_loss, self.val_accuracy = loss, accuracy
        if math.isfinite(loss):
            return accuracy if higher else loss
        self.not_finite += 1
        return None

    def weigh(self, value: float | None, step: int, *, higher: bool, min_delta: float) -> bool:
        """Whether ``value``, of the evaluation taken after ``step`` updates, is the best so far by ``min_delta``.

        Among equal accuracies the one of lower loss is better, and the earliest one of equal loss; patience does not
        begin anew for it.
        """
        gain = math.inf if self.best is None or value is None else (value - self.best) * (1 if higher else -1)
        improved = value is not None and gain > min_delta
        self.stale = 0 if improved else self.stale + 1
        if not improved and not (higher and value is not None and value == self.best and self._has_lower_loss()):
            return False
        self.best, self.best_step = value, step
        self.best_val_loss, self.best_val_accuracy = self.val_loss, self.val_accuracy
        return True

    def _has_lower_loss(self) -> bool:
        assert self.val_loss is not None
        return self.best_val_loss is not None and self.val_loss < self.best_val_loss

    def early_stop(self, plan: Plan, done: int) -> str:
        """Say that a run of ``plan`` ended after ``done`` updates for want of improvement."""
        semantic = plan.semantic
        rise = "risen" if semantic.monitor == "val_accuracy" else "fallen"
        margin = f" by more than {semantic.min_delta:g}" if semantic.min_delta else ""
        times = "the last evaluation" if self.stale == 1 else f"the last {self.stale} evaluations"
        best = f"best after epoch {plan.epoch_of(self.best_step - 1)}" if self.best_step else "it was never finite"
        return (
            f"{STOPPED_EARLY}, after epoch {plan.epoch_of(done - 1)} of {plan.epoch_of(semantic.steps - 1)}:"
            f" {semantic.monitor} has not {rise}{margin} in {times} (trainer.patience={semantic.patience}); {best}"
        )

    def notes(self, test_loss: float | None, *, left_out: bool) -> tuple[str, ...]:
        """What the record of the run should say of its figures; ``left_out`` as of ``FitResult.zeroed_examples``."""
        found = []
        if left_out:
            found.append(
                "examples without a finite gradient were left out of updates (`zeroed_examples`), and the training loss"
                " is that of the others: a lower optimizer.lr or another precision may help"
            )
        if self.not_finite:
            times = "once" if self.not_finite == 1 else f"{self.not_finite} times"
            line = f"the validation loss was not finite {times}, and nothing was chosen by these evaluations"
            found.append(line if self.best is not None else f"{line}: none is best, so the last weights count")
        if test_loss is not None and not math.isfinite(test_loss):
            found.append("the test loss is not finite: it is left out of comparisons, and such answers count as wrong")
        return tuple(found)
