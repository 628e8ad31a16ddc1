"""The loss of single examples."""

from __future__ import annotations

from collections.abc import Callable

import torch


def cross_entropy(label_smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cross-entropy without reduction: logits [b, K] and labels int64 [b] give losses [b] in nats.

    Label smoothing spreads that share of the target mass evenly over all classes (Szegedy et al. 2016, section 7).
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)

    return losses
