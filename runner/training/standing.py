"""What the loop remembers while it runs, and what it hands over at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runner.records.run_file import FinalMetrics
from runner.records.step_time import StepTime
from runner.training.batch_sizes import Halving

Status = Literal["completed", "interrupted", "pruned", "budget_exhausted"]
"""How a run that did not fail ends."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended and what it measured."""

    status: Status
    metrics: FinalMetrics
    samples_per_second: float | None
    compile_seconds: float | None
    peak_bytes: int
    steps: int
    epochs: float
    skipped_steps: int
    zeroed_examples: int
    epsilon: float | None
    step_time: StepTime | None
    """Where the time of the steps went, mean over the processes; None where too few steps were made."""
    halvings: tuple[Halving, ...]
    """Times that memory ran out."""
    notes: tuple[str, ...]
    """What was found on the way and the user should know."""


@dataclass(kw_only=True)
class Standing:
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
