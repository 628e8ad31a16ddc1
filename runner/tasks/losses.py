"""Per-example losses, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch

_FEW_CLASSES = 16
"""Numbers in the widest vector of a CPU: rows of fewer leave log-softmax without one (512 rows of 10: 66 us for 9)."""


def cross_entropy(label_smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cross-entropy in nats: logits [b, K] and labels int64 [b] give losses [b].

    A label may also be the share of each class, [b, K]: the loss is the sum of -share x log(probability).

    Label smoothing spreads that share of the target mass evenly over all classes (Szegedy et al. 2016, section 7).
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)

    return losses


def cross_entropy_in_parts(label_smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """``cross_entropy`` for gradients per example: ``torch.func`` would take the whole one apart in Python.

    That decomposition asks the compiler's symbolic shapes whether shapes agree, whose import takes 0.3 s.
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shares = logits.log_softmax(1)
        nats = -shares.gather(1, labels[:, None]).squeeze(1)
        return nats if label_smoothing == 0 else nats.lerp(-shares.mean(1), label_smoothing)

    return losses


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logarithm of each class's probability, [b, K], of ``logits`` [b, K]; of no use to a gradient.

    Few classes are taken class by class on a CPU, and lie so in memory: the same to the last bit or two in float32.
    """
    plain = logits.device.type == "cpu" and logits.dtype == torch.float32
    if plain and logits.shape[1] < _FEW_CLASSES:
        return logits.t().log_softmax(0).t()
    return logits.log_softmax(1)
