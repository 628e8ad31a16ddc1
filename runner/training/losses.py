"""The loss of single examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch


def cross_entropy(
    label_smoothing: float, *, reduction: Literal["none", "sum"] = "none"
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cross-entropy in nats: logits [b, K] and labels int64 [b] give losses [b], or their sum.

    Label smoothing spreads that share of the target mass evenly over all classes (Szegedy et al. 2016, section 7).
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction=reduction, label_smoothing=label_smoothing)

    return losses
