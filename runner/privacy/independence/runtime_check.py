"""Mixing checks during a private run, on its own micro-batches."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

import torch
from torch import Tensor, nn

from runner.errors import EpsilonVoid
from runner.privacy.example_gradients.per_example import Forward, Loss, PerExampleGradients
from runner.privacy.independence.batch_mixing import (
    KINDS,
    Batch,
    allowed,
    contribution,
    mixing_difference,
    moved_by_rounding,
)
from runner.privacy.independence.carried_state import CarriedState
from runner.privacy.independence.fewer_examples import on_fewer_where_memory_ends
from runner.privacy.independence.global_generators import GeneratorStates
from runner.privacy.independence.same_operations import other_operation
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.random_layers import LayerKeys

SHARE = 1 / 400
"""Of the micro-batches after the first at which it looks.  A look costs about two of them: half a per cent in all."""
_TRIES = 3
"""See ``runner.privacy.independence.batch_probe``."""


class SixteenBits(NamedTuple):
    """What a look at a forward pass in 16 bits needs."""

    forward: Forward
    """Its context."""
    loss: Loss
    in_float32: PerExampleGradients
    """The same gradients without that context."""
    batched: bool
    """Whether a pass sees several examples, which that of ``functional`` does not."""


class RuntimeMixingCheck:
    """Compares, at moments that follow from the secret key, what some examples add among others.

    What no test before the run could see acts on the run's own images, at its own batch size, or later.  So at the
    first micro-batch of each session, and at one in ``1 / SHARE`` of the others, drawn by a pseudorandom function of
    the key, what a random half of the examples adds must keep its bits while the others are replaced.  At the first it
    is computed alone as well and may differ by what rounding explains; of a pass in 16 bits that is done in float32,
    where the operations are shown to be the same.  Buffers, attributes and shared generators must be as they were.

    What is found is kept until the processes have agreed on it (``PrivateRule.share``).
    """

    def __init__(self, model: nn.Module, key: SecretKey, *, sixteen_bits: SixteenBits | None = None) -> None:
        """``sixteen_bits`` is needed where the forward pass rounds to 16 bits."""
        self._model = model
        self._moments = key.derive("moments of looking at companions")
        self._sixteen_bits = sixteen_bits
        self._carried = CarriedState(model, trained=False)
        self._calls = 0
        self.fault: str | None = None
        """What was found, in words; None so far."""

    def check(self, gradients: PerExampleGradients, images: Tensor, labels: Tensor) -> None:
        """Perhaps look at a micro-batch, images [b * copies, C, H, W] and labels [b], before it is added up."""
        first, number = self._calls == 0, self._calls
        self._calls += 1
        drawn = hashlib.blake2b(struct.pack("<Q", number), key=self._moments, digest_size=16).digest()
        moment, seed = struct.unpack("<Qq", drawn)
        if self.fault is None and (first or moment < SHARE * 2**64):
            self.fault = self._found(gradients, images, labels, torch.Generator().manual_seed(seed), first=first)

    def kept(self) -> str | None:
        """What the forward passes since the start have changed, and where; None when nothing."""
        place = self._carried.changed()
        return None if place is None else f"the forward pass has changed {place}"

    def _found(
        self,
        gradients: PerExampleGradients,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        *,
        first: bool,
    ) -> str | None:
        keys = LayerKeys.of(self._model)
        batch = Batch(images, labels, None if keys is None else keys.current)
        parameters, generators = CarriedState(self._model), GeneratorStates(images.device)
        if len(labels) > 1:
            if self._meet(gradients, batch, generator, first=first):
                return "what examples add to the clipped sum depends on their companions"
            if first and (found := self._by_size(gradients, batch, generator)) is not None:
                return found
        if (whose := generators.changed()) is not None:
            return f"the forward pass has drawn from {whose}'s generator for all examples of a batch"
        if (place := parameters.changed()) is not None:
            return f"the forward pass has changed {place}"
        return self.kept()

    def _meet(self, gradients: PerExampleGradients, batch: Batch, generator: torch.Generator, *, first: bool) -> bool:
        half = _half(batch, generator)
        choices = [(half, KINDS[0]), (~half, KINDS[1])]
        if not first:
            choices = choices[int(torch.randint(0, 2, (), generator=generator)) :][:1]
        expected = [
            contribution(found, kept) for found in [batch.through(gradients, self._model)] for kept, _ in choices
        ]
        return mixing_difference(gradients, self._model, batch, expected, choices, generator) is not None

    def _by_size(self, gradients: PerExampleGradients, batch: Batch, generator: torch.Generator) -> str | None:
        """What a sum depends on besides its examples, or None; of a pass in 16 bits, in float32 on what then fits."""
        low = self._sixteen_bits
        if low is None:
            return self._alone(gradients, batch, generator)

        def in_float32(size: int) -> str | None:
            part = batch if size == len(batch.labels) else batch.at(torch.arange(size, device=batch.labels.device))
            if low.batched and (name := other_operation(self._model, part, low.forward, low.loss)) is not None:
                return f"the operations in 16 bits are others than in float32 (from {name} on)"
            return self._alone(low.in_float32, part, generator)

        return on_fewer_where_memory_ends(in_float32, len(batch.labels))

    def _alone(self, gradients: PerExampleGradients, batch: Batch, generator: torch.Generator) -> str | None:
        if all(self._unlike_alone(gradients, batch, generator) for _ in range(_TRIES)):
            return "what examples add to the clipped sum depends on how many they are or on their order"
        return None

    def _unlike_alone(self, gradients: PerExampleGradients, batch: Batch, generator: torch.Generator) -> bool:
        half = _half(batch, generator)
        among = contribution(batch.through(gradients, self._model), half)
        fewer = batch.at(half.nonzero().flatten().flip(0))
        everyone = torch.ones_like(fewer.labels, dtype=torch.bool)
        alone = contribution(fewer.through(gradients, self._model), everyone)
        nudged = contribution(moved_by_rounding(gradients, self._model, fewer, generator), everyone)
        return not alone.apart(among) <= allowed(alone, nudged)


def void_error(fault: str | None) -> EpsilonVoid:
    """The error of a run in which ``fault`` was found; None where another process has found it."""
    what = fault or "another process has found that examples of a batch depend on each other"
    return EpsilonVoid(
        f"{what}: no epsilon holds for what this run has released before, and nothing of this step is released; try"
        " privacy.grad_sample=functional or another model"
    )


def _half(batch: Batch, generator: torch.Generator) -> Tensor:
    """A random half of the examples [b] bool: at least one, fewer than all, and by an odd number."""
    size = len(batch.labels)
    kept = size // 2 + (size - size // 2 + 1) % 2
    return (torch.randperm(size, generator=generator) < kept).to(batch.labels.device)
