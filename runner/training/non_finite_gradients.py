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
    cures = [_smaller_step(parts)]
    if semantic.clip_norm is None and semantic.privacy is None and not _decay_diverges(parts):
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
    cures = _smaller_step(parts)
    if parts.plan.semantic.precision.dtype == "float16":
        cures = f"precision=bf16 or {cures}"
    raise RunError(f"step {step + 1}: the weights are not finite any more; try {cures}")


def _smaller_step(parts: Parts) -> str:
    """What to make smaller, as it would be said to the user."""
    groups = parts.optimizer.param_groups
    rate = f"a lower optimizer.lr (now {groups[0]['lr']:.3g})"
    if not _decay_diverges(parts):
        return rate
    decay = max(group.get("weight_decay", 0.0) for group in groups)
    return f"{rate} or optimizer.weight_decay (now {decay:.3g}): with both the decay makes the weights larger"


def _decay_diverges(parts: Parts) -> bool:
    """Whether the decay alone, which turns weights w into (1 - rate decay) w, makes them larger at each update."""
    return any(group["lr"] * group.get("weight_decay", 0.0) > 2 for group in parts.optimizer.param_groups)


def _name(data: ImageData, row: int) -> str:
    names = data.train.names
    return names[row] if names is not None else f"training example {row}"
