"""Recording wrappers: a gradient rule and a feed that pass everything on and note what passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.audit.released_noise import Noise
from runner.data.feed import Feed
from runner.optim.flat_gradients import gradient_views
from runner.privacy.example_gradients.per_example import trainable
from runner.privacy.mechanism.private_rule import PrivateRule
from runner.training.parts import Parts
from runner.training.running_metrics import Answers

Look = Callable[[int, Tensor, Tensor], None]
"""Told of each step, its clipped sum and its noise in units of sigma C, both flat, before the weights change."""


class Observer:
    """Stands in the place of a run's gradient rule and sees what an attacker sees, and the clipped sum besides."""

    def __init__(self, parts: Parts, *, kept: int, feed: RecordingFeed, observe: Look | None = None) -> None:
        """Of the rule of ``parts``, which take their examples from ``feed``; ``kept`` numbers of noise a step stay."""
        rule, privacy = parts.rule, parts.plan.semantic.privacy
        assert isinstance(rule, PrivateRule)
        assert privacy is not None
        self._rule = rule
        self._parameters = parts.parameters
        self._batch = float(parts.plan.semantic.logical_batch)
        self._deviation = privacy.noise_multiplier * privacy.max_grad_norm
        self._feed = feed
        self._look = observe
        self.clipped_sum = torch.zeros(0)
        """Of the latest step, over all processes and before the noise: flat."""
        self.names = tuple(trainable(parts.model))
        self._counts = [parameter.numel() for parameter in self._parameters]
        self._widths = widths(self._counts, kept)
        self._kept: list[list[Tensor]] = []
        self._squares: list[list[float]] = []
        self._totals: list[list[float]] = []
        self.released: list[Tensor] = []
        """The gradients of the latest step, as the optimizer is to see them."""

    @property
    def zeroed(self) -> Tensor | None:
        """Hands on."""
        return self._rule.zeroed

    def begin(self, denominator: float) -> None:
        """Hands on; a step that ran out of memory begins again."""
        self._feed.rows.clear()
        self._rule.begin(denominator)

    def add(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Answers]:
        """Hands on."""
        return self._rule.add(images, labels)

    def share(self, flags: Sequence[bool]) -> list[bool]:
        """Keeps what the processes have added up."""
        answers = self._rule.share(flags)
        self.clipped_sum = self._rule.clipped_sum.clone()
        return answers

    def release(self, step: int) -> Tensor | None:
        """Releases by the real rule, and takes the clipped sum out of what every ``p.grad`` holds."""
        norm = self._rule.release(step)
        self.released = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self._parameters]
        noise = torch.empty_like(self.clipped_sum, dtype=torch.float64)
        sums, parts = (gradient_views(flat, self._parameters) for flat in (self.clipped_sum, noise))
        for released, clipped, part in zip(self.released, sums, parts, strict=True):
            part.copy_(released.double().mul_(self._batch).sub_(clipped).div_(self._deviation))
        flat = noise.split(self._counts)
        self._squares.append([float(part.square().sum()) for part in flat])
        self._totals.append([float(part.sum()) for part in flat])
        self._kept.append([part[:width].float().cpu() for part, width in zip(flat, self._widths, strict=True)])
        if self._look is not None:
            self._look(step, self.clipped_sum, noise)
        return norm

    def noise(self) -> Noise:
        """Of all steps so far."""
        return Noise(
            names=self.names,
            counts=np.array(self._counts),
            squares=np.array(self._squares),
            totals=np.array(self._totals),
            kept=tuple(torch.stack(steps).numpy() for steps in zip(*self._kept, strict=True)),
        )


class RecordingFeed:
    """Hands on what a feed is asked for, and writes down which examples."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.rows: list[Tensor] = []
        """Of each call of ``batch`` since the list was last emptied."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def batch(self, rows: Tensor, draws: Tensor | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        """See ``Feed.batch``."""
        self.rows.append(rows)
        return self._feed.batch(rows, draws, copies=copies)


def widths(counts: Sequence[int], most: int) -> list[int]:
    """How many numbers of each tensor are kept, ``most`` in all: small tensors whole, of the others alike many."""
    left, found = most, dict[int, int]()
    for place, index in enumerate(sorted(range(len(counts)), key=lambda index: counts[index])):
        found[index] = max(1, min(counts[index], left // (len(counts) - place)))
        left -= found[index]
    return [found[index] for index in range(len(counts))]
