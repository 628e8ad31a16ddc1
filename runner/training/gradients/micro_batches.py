"""A logical batch in the pieces that go through the model at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from runner.training.parts import Parts


def micro_batches(parts: Parts, step: int, rows: Tensor, *, rank: int, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Every ``size``-th example of logical batch ``step``, from number ``rank`` on, split by ``data.batch_size``.

    The split changes no augmentation (``runner.training.gradients.step_rng``).  When a micro-batch is yielded, the
    model's random layers are ready for it.

    Args:
        parts: of the run.
        step: the update.
        rows: int64 [m] positions in the training set: the whole logical batch.
        rank: of the process.
        size: number of processes.

    Yields:
        Rows int64 [b] on the CPU, images [b * copies, C, H, W] with the copies of an example side by side, and labels
        int64 [b].
    """
    parts.clock.enter("data")
    feed = parts.feed
    start = 0
    my_draws = parts.draws.images(step, rows, rank=rank, size=size) if feed.augments else None
    for part in shares(parts, rows, rank=rank, size=size):
        parts.draws.layers(step, part)
        if my_draws is None:
            yield part, *feed.batch(part, None)
        else:
            stop = start + part.numel()
            yield part, *feed.batch(part, my_draws[start:stop].flatten(0, 1), copies=my_draws.shape[1])
            start = stop
        parts.clock.enter("data")


def shares(parts: Parts, rows: Tensor, *, rank: int, size: int) -> Sequence[Tensor]:
    """The rows of each of these micro-batches, int64 [b] on the CPU; the arguments are those of ``micro_batches``."""
    mine = rows if size == 1 else rows[rank::size]
    count, micro = mine.numel(), parts.sizes["training"]
    if count > micro:
        return mine.split(micro)
    return (mine,) if count else ()
