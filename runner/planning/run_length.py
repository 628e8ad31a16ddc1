"""The length of a run: updates of an epoch, and of all of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.config.schema import RunConfig


def updates_per_epoch(config: RunConfig, examples: int, logical_batch: int) -> float:
    """Updates that pass over ``examples`` once; under Poisson sampling on average."""
    return examples / logical_batch if config.privacy.enabled else float(-(-examples // logical_batch))


def updates_asked(config: RunConfig, steps_per_epoch: float) -> int | None:
    """The number of updates; None for as many as the privacy budget allows."""
    trainer = config.trainer
    if trainer.steps is not None or trainer.epochs is None:
        return trainer.steps
    return max(1, math.floor(trainer.epochs * steps_per_epoch + 0.5))
