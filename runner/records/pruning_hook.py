"""The interface by which a search sees each evaluation and may end a run early."""

from __future__ import annotations

from typing import Protocol


class PruningHook(Protocol):
    """What the loop asks after each evaluation on the validation split."""

    def is_hopeless(self, epoch: int, *, val_loss: float, val_accuracy: float) -> bool:
        """Take in what was measured after ``epoch``; whether the run is not worth going on with."""
        ...
