"""The batch sampler: logical batches as a pure function of (seed, step), so that a resumed step repeats itself."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class BatchSampler(Protocol):
    """The order of the training examples."""

    def rows(self, step: int) -> torch.Tensor:
        """Positions in the training set of logical batch ``step`` (from 0): int64 [m] on the CPU; m may be 0."""
        ...


class ShuffledSampler:
    """Every example once an epoch in a new order; the last batch of an epoch is shorter when it must be."""

    def __init__(self, examples: int, batch: int, seed: int) -> None:
        self._examples = examples
        self._batch = batch
        self._seed = seed
        self.steps_per_epoch = -(-examples // batch)
        self._epoch = -1
        self._batches: tuple[torch.Tensor, ...] = ()

    def rows(self, step: int) -> torch.Tensor:
        """Positions of logical batch ``step``: int64 [batch], or fewer at the end of an epoch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(fold_in(self._seed, epoch))
            # All at once: a slice in the middle of a step costs many times one of a row of slices.
            self._batches = self._order(generator).split(self._batch)
            self._epoch = epoch
        return self._batches[position]

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        """Positions of a whole epoch, int64 [examples]."""
        return torch.randperm(self._examples, generator=generator)


class BalancedSampler(ShuffledSampler):
    """As many draws an epoch as there are examples: a class that has some, uniformly, and then one of its examples."""

    def __init__(self, labels: NDArray[np.int64], batch: int, seed: int) -> None:
        super().__init__(len(labels), batch, seed)
        classes = torch.from_numpy(labels)
        counts = torch.bincount(classes)
        counts = counts[counts > 0]
        self._counts = counts
        self._starts = counts.cumsum(0) - counts
        self._by_class = classes.argsort(stable=True)

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        drawn = torch.randint(len(self._counts), (self._examples,), generator=generator)
        place = torch.rand(self._examples, dtype=torch.float64, generator=generator) * self._counts[drawn]
        return self._by_class[self._starts[drawn] + place.long()]


def fold_in(seed: int, *counters: int) -> int:
    """A 63-bit seed for each (seed, counters): neighbouring inputs give unrelated outputs (splitmix64 finaliser).

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    state = seed & _MASK
    for counter in counters:
        state = (state + _GOLDEN * (counter + 1)) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
