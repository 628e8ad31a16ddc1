"""A logical batch in the pieces that go through the model at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from runner.data import augment

if TYPE_CHECKING:
    from runner.training.parts import Parts


def micro_batches(parts: Parts, step: int, rows: Tensor, *, rank: int, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Every ``size``-th example of logical batch ``step``, from number ``rank`` on, split by ``data.batch_size``.

    Augmentation is drawn for the whole logical batch: the draws of copy k of the example at position i follow from
    (seed, step, i, k), so the split changes nothing.

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
    my_draws, copies = _draw(parts, step, rows.numel(), rank=rank, size=size) if feed.augments else (None, 1)
    for part in shares(parts, rows, rank=rank, size=size):
        if my_draws is None:
            yield part, *feed.batch(part, None)
        else:
            stop = start + part.numel()
            yield part, *feed.batch(part, my_draws[start:stop].flatten(0, 1), copies=copies)
            start = stop
        parts.clock.enter("data")


def shares(parts: Parts, rows: Tensor, *, rank: int, size: int) -> Sequence[Tensor]:
    """The rows of each of these micro-batches, int64 [b] on the CPU; the arguments are those of ``micro_batches``."""
    mine = rows if size == 1 else rows[rank::size]
    count, micro = mine.numel(), parts.sizes["training"]
    if count > micro:
        return mine.split(micro)
    return (mine,) if count else ()


def _draw(parts: Parts, step: int, examples: int, *, rank: int, size: int) -> tuple[Tensor, int]:
    """The draws of this process's examples, [m, copies, ...], and how many copies there are."""
    semantic = parts.plan.semantic
    copies = 1 if semantic.privacy is None else semantic.privacy.augmentation_multiplicity
    data = semantic.data
    draws = augment.draw(data.augment, data.image_size, semantic.seed, step, examples * copies)
    assert draws is not None
    return draws.unflatten(0, (examples, copies))[rank::size], copies
