"""Per-example losses, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits [b, K] and labels [b], or shares of classes [b, K], to losses [b]."""
_FEW_CLASSES = 16
"""Numbers in the widest vector of a CPU: rows of fewer leave log-softmax without one (512 rows of 10: 66 us for 9)."""


def cross_entropy(label_smoothing: float) -> Loss:
    """Cross-entropy in nats: logits [b, K] and labels int64 [b] give losses [b].

    A label may also be the share of each class, [b, K]: the loss is the sum of -share x log(probability).

    Label smoothing spreads that share of the target mass evenly over all classes (Szegedy et al. 2016, section 7).
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)

    return losses


def cross_entropy_in_parts(label_smoothing: float) -> Loss:
    """``cross_entropy`` for gradients per example: ``torch.func`` would take the whole one apart in Python.

    That decomposition asks the compiler's symbolic shapes whether shapes agree, whose import takes 0.3 s.
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shares = logits.log_softmax(1)
        nats = -shares.gather(1, labels[:, None]).squeeze(1)
        return nats if label_smoothing == 0 else nats.lerp(-shares.mean(1), label_smoothing)

    return losses


def weighted_cross_entropy(weights: torch.Tensor, label_smoothing: float) -> Loss:
    """Cross-entropy in which each class of the target counts with its weight: w_y times the loss without smoothing.

    That is sum_k t_k w_k (-log p_k) for a target t, as torch's ``weight`` has it before it divides: smoothing and
    shares of classes are targets too.

    Args:
        weights: of each class, float64 [K].
        label_smoothing: share of the target mass spread evenly over all classes.
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nats = -wide(logits).log_softmax(1)
        nats = nats * weights.to(nats.dtype)
        found = of_target(nats, labels)
        return found if label_smoothing == 0 else found.lerp(nats.mean(1), label_smoothing)

    return losses


def focal(gamma: float, weights: torch.Tensor | None) -> Loss:
    """Focal loss: sum_k t_k w_k (1 - p_k)^gamma (-log p_k) (Lin et al. 2017, equation 5, whose alpha is w).

    Args:
        gamma: how much less examples count that are right already; 0 is cross-entropy.
        weights: of each class, float64 [K]; None for 1.
    """

    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logs = wide(logits).log_softmax(1)
        # 1 - p by expm1: near p = 1 the difference would have lost its digits
        terms = -logs if gamma == 0 else -logs * (-torch.expm1(logs)).clamp(min=_TINY) ** gamma
        return of_target(terms if weights is None else terms * weights.to(terms.dtype), labels)

    return losses


_TINY = 1e-30
"""Least share of a wrong answer in ``focal``: below 1 the slope of a power of zero is infinite."""


def wide(logits: torch.Tensor) -> torch.Tensor:
    """``logits`` in float32 at least."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def of_target(terms: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The terms [b, K] of the labels, [b]: of a class number its own, of shares of classes their weighted sum."""
    return terms.gather(1, labels[:, None]).squeeze(1) if labels.dim() == 1 else (terms * labels).sum(1)


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logarithm of each class's probability, [b, K], of ``logits`` [b, K]; of no use to a gradient.

    Few classes are taken class by class on a CPU, and lie so in memory: the same to the last bit or two in float32.
    """
    plain = logits.device.type == "cpu" and logits.dtype == torch.float32
    if plain and logits.shape[1] < _FEW_CLASSES:
        return logits.t().log_softmax(0).t()
    return logits.log_softmax(1)
