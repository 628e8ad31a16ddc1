"""The error for a gradient that is not finite: the examples that caused it, and what to try."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from runner.errors import RunError
from runner.training.gradients.micro_batches import micro_batches

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.training.parts import Parts

_NAMED = 5


def explain_non_finite(parts: Parts, data: ImageData, step: int) -> str:
    """Look at logical batch ``step`` again, with the weights from before its update, and name what is not finite.

    Each process looks at the whole batch, so that all of them end with the same line.
    """
    semantic = parts.plan.semantic
    rows = parts.sampler.rows(step)
    wrong: list[int] = []
    with torch.no_grad():
        for part, images, labels in micro_batches(parts, step, rows, rank=0, size=1):
            copies = len(images) // len(labels)
            with parts.precision.forward():
                found = parts.task.losses(parts.model(images), labels.repeat_interleave(copies))
            wrong += part[~torch.isfinite(found.view(-1, copies).sum(1)).cpu()].tolist()
    lr = parts.optimizer.param_groups[0]["lr"]
    cures = [f"a lower optimizer.lr (now {lr:.3g})"]
    if semantic.clip_norm is None and semantic.privacy is None:
        cures.append("trainer.clip_norm=1")
    if semantic.precision.dtype == "float16":
        cures.insert(0, "precision=bf16")
    what = "the gradient is not finite"
    if wrong:
        names = ", ".join(_name(data, row) for row in wrong[:_NAMED]) + (" ..." if len(wrong) > _NAMED else "")
        what = f"the loss of {len(wrong)} of {len(rows)} examples is not finite ({names})"
    return f"step {step + 1}: {what}; no update was made; try {' or '.join(cures)}"


def refuse_non_finite_weights(parts: Parts, step: int) -> None:
    """Look at the weights after update ``step`` of a private run, whose gradients are finite whatever happens.

    Weights are what a private run publishes: that it ends by them tells nothing more.

    Raises:
        RunError: one of them is not finite, so that no further update would mean anything.
    """
    if all(bool(parameter.isfinite().all()) for parameter in parts.model.parameters()):
        return
    cures = f"a lower optimizer.lr (now {parts.optimizer.param_groups[0]['lr']:.3g})"
    if parts.plan.semantic.precision.dtype == "float16":
        cures = f"precision=bf16 or {cures}"
    raise RunError(f"step {step + 1}: the weights are not finite any more; try {cures}")


def _name(data: ImageData, row: int) -> str:
    names = data.train.names
    return names[row] if names is not None else f"training example {row}"
