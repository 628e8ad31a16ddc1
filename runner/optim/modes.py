"""Optimizers that train at other weights than those to be used: they have ``train()`` and ``eval()``.

Schedule-free methods (Defazio et al. 2024, "The Road Less Scheduled", section 2) compute gradients at y, between the
average x, which is the model, and the point z that the steps move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def has_modes(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``optimizer`` has weights for training and others for everything else."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def lacking_mode(optimizer: torch.optim.Optimizer) -> str | None:
    """Which of ``train`` and ``eval`` it lacks, having the other: its weights for use could not be told from others."""
    found = [name for name in ("train", "eval") if callable(getattr(optimizer, name, None))]
    return None if len(found) != 1 else "eval" if found == ["train"] else "train"


def begin_training(optimizer: torch.optim.Optimizer) -> None:
    """Put an optimizer that has modes into that of training; some refuse to step in the other."""
    if has_modes(optimizer):
        modal: Any = optimizer
        modal.train()


@contextmanager
def evaluation_weights(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """``parameters`` hold what ``optimizer`` would have evaluated inside, and what they were, bit for bit, after it."""
    modal: Any = optimizer
    held = [parameter.detach() for parameter in parameters]
    own = [weights.clone() for weights in held]
    modal.eval()
    try:
        yield
    finally:
        modal.train()
        # the way there and back would round
        for weights, before in zip(held, own, strict=True):
            weights.copy_(before)
