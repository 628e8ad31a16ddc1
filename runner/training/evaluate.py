"""Loss and accuracy over a whole split, each example counted once whatever the number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from runner.error_texts import is_out_of_memory
from runner.training.eval_chunks import chunked_logits

if TYPE_CHECKING:
    from runner.data.feature_feed import AnyFeed
    from runner.training.distributed.world import World
    from runner.training.parts import Parts


def evaluate(parts: Parts, feed: AnyFeed, examples: int, *, classes: torch.Tensor | None = None) -> tuple[float, float]:
    """Mean cross-entropy (without label smoothing, in nats) and accuracy in [0, 1] over ``examples`` rows of ``feed``.

    An answer that is not finite is no right one.  Each process takes every size-th row, so no row is padded or
    repeated.  A batch for which there is no memory is taken again in halves.

    ``classes`` [2, examples], zeros on the model's device, gets the label of each row and the class that was answered,
    ``NO_ANSWER`` where that is not finite.

    Raises:
        RunError: there is no memory for one example.
    """
    model, task, sizes, precision, world = parts.model, parts.task, parts.sizes, parts.precision, parts.world
    wide = torch.float32 if world.device.type == "mps" else torch.float64
    totals = torch.zeros(2, dtype=wide, device=world.device)
    mine = torch.arange(world.rank, examples, world.size)
    was_training = model.training
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def measure(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        try:
            images, labels = feed.batch(rows, None)
            logits = chunked_logits(model, images, precision)
            losses, answers, right = task.judge(logits, labels)
            return torch.stack([losses.sum().to(wide), right.sum().to(wide)]), labels, answers
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    model.eval()
    with torch.inference_mode(), sizes.alike("evaluation", world):
        start = 0
        while start < len(mine):
            rows = mine[start : start + sizes["evaluation"]]
            if start == 0:
                feed.announce(rows)
            feed.announce(mine[start + len(rows) : start + len(rows) + sizes["evaluation"]])
            if (found := measure(rows)) is None:
                sizes.halve("evaluation", len(rows))
                continue
            figures, labels, answers = found
            totals += figures
            if classes is not None:
                kept.append((labels, answers))
            start += len(rows)
    model.train(was_training)
    world.sum_(totals)
    if classes is not None:
        if kept:
            for row, found_here in zip(classes, zip(*kept, strict=True), strict=True):
                row[world.rank :: world.size] = torch.cat(found_here)
        world.sum_(classes)
    loss, accuracy = (totals / examples).tolist()
    return loss, accuracy


def share_buffers(model: torch.nn.Module, world: World) -> None:
    """Give every process the buffers of the first, such as BatchNorm's running statistics.

    Each process has seen its own micro-batches; as in DistributedDataParallel the first one's statistics count.
    """
    if world.size == 1:
        return
    shared = world.broadcast({name: buffer.cpu() for name, buffer in model.named_buffers()} if world.is_main else None)
    for name, buffer in model.named_buffers():
        buffer.copy_(shared[name])
