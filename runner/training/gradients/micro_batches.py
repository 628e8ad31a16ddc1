"""A logical batch in the pieces that go through the model at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner.data.mixing import with_partners

if TYPE_CHECKING:
    from runner.data.mixing import Mixer
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
        int64 [b]; or, where examples are mixed, the share of each class in their labels, [b, K].
    """
    parts.clock.enter("data")
    if parts.mixer is not None:
        yield from _mixed(parts, parts.mixer, step, rows, rank=rank, size=size)
        return
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


def gathered(parts: Parts, rows: Tensor, *, rank: int, size: int) -> Sequence[Tensor]:
    """The rows that ``micro_batches`` asks the feed for: those of ``shares``, and those that they are mixed with."""
    if parts.mixer is None:
        return shares(parts, rows, rank=rank, size=size)
    count = rows.numel()
    positions = shares(parts, torch.arange(count), rank=rank, size=size)
    return [rows[with_partners(share, count)[0]] for share in positions]


def _mixed(
    parts: Parts, mixer: Mixer, step: int, rows: Tensor, *, rank: int, size: int
) -> Iterator[tuple[Tensor, ...]]:
    """``micro_batches`` where an image is made of two examples of the logical batch, in whatever process these are."""
    feed, count = parts.feed, rows.numel()
    draws = parts.draws.images(step, rows, rank=0, size=1).flatten(0, 1) if feed.augments else None
    mixture = mixer.draw(step, count)
    for positions in shares(parts, torch.arange(count), rank=rank, size=size):
        parts.draws.layers(step, rows[positions])
        needed, partners = with_partners(positions, count)
        images, labels = feed.batch(rows[needed], None if draws is None else draws[needed])
        yield rows[positions], *mixer.mix(images, labels, partners, mixture.of(positions))
        parts.clock.enter("data")
