"""Figures of a private run that its epsilon does not cover.

Epsilon covers the weights at every step, and what is computed from them without the private images.
"""

from __future__ import annotations

from collections.abc import Iterable

from runner.records.metrics import RecordKind

NOT_COVERED = "not_covered_by_epsilon"
"""The field that names them, of a line of ``metrics.jsonl``, of ``run.json`` and of what trackers are told."""

# The norm is that of a released gradient; the others are set, or computed from what is.
_COVERED = frozenset({"epsilon", "lr", "grad_norm", "loss_scale", "skipped_steps"})
_OF_THE_RUN = (
    "metrics.train_loss",
    "metrics.val_loss",
    "metrics.val_accuracy",
    "metrics.test_loss",
    "metrics.test_accuracy",
    "metrics.test_majority",
    "metrics.test_most_predicted",
    "throughput",
    "memory",
    "step_time",
    "zeroed_examples",
    "out_of_memory",
    "prediction",
    "seconds",
)
"""Of ``run.json``: losses and accuracies on people's images, and what depends on how many examples were drawn."""


def non_private_figures_of_record(kind: RecordKind, names: Iterable[str], *, validation: str) -> list[str]:
    """Those of the figures ``names`` of a line of ``metrics.jsonl`` that epsilon does not cover.

    ``validation`` is ``PrivacyPlan.validation``: on ``public`` images figures are covered.
    """
    if kind == "val" and validation == "public":
        return []
    return [name for name in names if name not in _COVERED]


def non_private_figures_of_run(*, validation: str) -> tuple[str, ...]:
    """Dotted names in ``run.json`` of what epsilon does not cover."""
    return tuple(name for name in _OF_THE_RUN if not (validation == "public" and name.startswith("metrics.val_")))
