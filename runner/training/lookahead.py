"""Announcing the examples of the next steps to the feed while the current one computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from runner.training.gradients.micro_batches import gathered

if TYPE_CHECKING:
    from runner.training.parts import Parts

AHEAD = 2
"""Logical batches that are announced beyond the current one, and so held in memory."""


class Lookahead:
    """The rows of each step; announces those of the next steps where the feed can use it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[int, Tensor] = {}

    def rows(self, step: int) -> Tensor:
        """The logical batch of ``step``: positions int64 [m] in the training set."""
        sampler, feed, world = self._parts.sampler, self._parts.feed, self._parts.world
        if not feed.works_ahead:
            return sampler.rows(step)
        for later in range(step, min(step + 1 + AHEAD, self._parts.plan.semantic.steps)):
            if later not in self._known:
                self._known[later] = sampler.rows(later)
                for share in gathered(self._parts, self._known[later], rank=world.rank, size=world.size):
                    feed.announce(share)
        return self._known.pop(step)
