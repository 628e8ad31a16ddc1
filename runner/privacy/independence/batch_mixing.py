"""Tests whether the examples of a micro-batch mix: what some add to the sum must not depend on the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from runner.privacy.example_gradients.per_example import PerExample, PerExampleGradients
from runner.privacy.mechanism.random_layers import LayerKeys

KINDS = ("broken", "mixed")
"""What stands in for companions; see ``with_others``."""
_SIZES = (1.0, 30.0, 0.0)
"""How large the pixels of mixed companions are, in turn: ordinary, larger than any image's, and blank."""
ROUNDINGS = 16.0
"""How many times as far as one rounding of each weight and pixel moves a gradient another batch size may move it: the
kernels for another size add up in another order, so that they round each intermediate sum otherwise."""
MOST_BY_ORDER = 1e-2
"""Of the clipping norm: what the same kernels on the same numbers may differ by, where a device adds up in an order of
its own each time.  A model that is another one at each call moves the measured rounding as well, so that this cannot
be the only bound."""


@dataclass(frozen=True)
class Batch:
    """Examples of ``copies`` images each, with what the random layers draw for them."""

    images: Tensor
    """[b * copies, C, H, W]"""
    labels: Tensor
    """int64 [b]"""
    keys: Tensor | None
    """int64 [b * copies]; None where no layer draws by example."""

    @property
    def copies(self) -> int:
        """Images of an example."""
        return len(self.images) // len(self.labels)

    def at(self, places: Tensor) -> Batch:
        """The examples at ``places``, int64 [k], in their order."""
        images, keys = (
            None if each is None else each.unflatten(0, (-1, self.copies))[places].flatten(0, 1)
            for each in (self.images, self.keys)
        )
        assert images is not None
        return Batch(images, self.labels[places], keys)

    def with_others(self, kept: Tensor, kind: str, generator: torch.Generator) -> Batch:
        """As large a batch, with the examples that ``kept`` [b] bool marks at their places, among others.

        ``broken`` others hold no number, which no arithmetic hides, however small its weight.  ``mixed`` ones are
        ordinary, far larger and blank in turn, because a comparison takes what is no number for one that is not.
        """
        if kind == "broken":
            others = torch.full_like(self.images, float("nan"))
        else:
            drawn = torch.randn(self.images.shape, generator=generator)
            sizes = torch.tensor(_SIZES)[(torch.cumsum(~kept.cpu(), 0) - 1) % len(_SIZES)]
            by_example = sizes.repeat_interleave(self.copies).view(-1, *[1] * (drawn.dim() - 1))
            others = (drawn * by_example).to(self.images)
        by_image = kept.repeat_interleave(self.copies)
        # in the same order in memory, which decides about kernels
        images = self.images.clone()
        images[~by_image] = others[~by_image]
        labels = torch.where(kept, self.labels, self.labels.roll(1))
        return Batch(images, labels, None if self.keys is None else torch.where(by_image, self.keys, ~self.keys))

    def drawn_in(self, model: nn.Module) -> Any:
        """The context in which the random layers of ``model`` draw for these images."""
        keys = LayerKeys.of(model)
        return nullcontext() if keys is None else keys.during(self.keys)

    def through(self, gradients: PerExampleGradients, model: nn.Module) -> PerExample:
        """Their gradients in ``model``."""
        with self.drawn_in(model):
            return gradients(self.images, self.labels)


class Contribution(NamedTuple):
    """What some examples of a micro-batch add to the clipped sum, where each is clipped."""

    norms: Tensor
    """Of the gradients of these examples [k]."""
    total: Tensor
    """Sum of their gradients, each divided by its norm, over all parameters: flat [P]."""

    def equals(self, other: Contribution) -> bool:
        """Bit by bit; a norm that is not finite equals another."""
        norms = (each.norms.nan_to_num(torch.inf) for each in (self, other))
        return torch.equal(self.total, other.total) and torch.equal(*norms)

    def apart(self, other: Contribution) -> float:
        """Norm of the difference, in units of the clipping norm."""
        return float((self.total - other.total).norm())


def contribution(found: PerExample, kept: Tensor) -> Contribution:
    """Of the examples that ``kept`` [b] bool marks; one whose gradient is not finite adds nothing."""
    norms = torch.linalg.vector_norm(torch.stack([gradient.norms() for gradient in found.gradients]), dim=0)
    counted = kept & norms.isfinite() & (norms > 0)
    weights = torch.where(counted, 1.0 / norms, 0.0)
    total = [gradient.weighted_sum(weights, ~counted).flatten() for gradient in found.gradients]
    return Contribution(norms[kept], torch.cat(total))


def moved_by_rounding(
    gradients: PerExampleGradients, model: nn.Module, batch: Batch, generator: torch.Generator
) -> PerExample:
    """The gradients of ``batch`` where each weight and each pixel is rounded up or down by one rounding of its type.

    The weights are as before afterwards.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    nudged = Batch(batch.images * _nudge(batch.images, generator), batch.labels, batch.keys)
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(_nudge(parameter, generator))
        return nudged.through(gradients, model)
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def allowed(one: Contribution, nudged: Contribution) -> float:
    """How far apart two contributions of the same examples may be where they were computed by other kernels."""
    least = torch.finfo(one.total.dtype).eps * len(one.norms)
    return ROUNDINGS * max(one.apart(nudged), least)


def _nudge(tensor: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, tensor.shape, generator=generator, dtype=torch.int8).to(tensor.device, tensor.dtype)
    return 1.0 + _rounding(tensor) * (2.0 * signs - 1.0)


def _rounding(tensor: Tensor) -> float:
    """Of a product of ``tensor`` with another of its type, relative to the result."""
    backends = torch.backends
    if (
        tensor.is_cuda
        and tensor.dtype == torch.float32
        and (backends.cuda.matmul.allow_tf32 or backends.cudnn.allow_tf32)
    ):
        return 2.0**-10  # the mantissa of tensor cores
    return torch.finfo(tensor.dtype).eps


def mixing_difference(
    gradients: PerExampleGradients,
    model: nn.Module,
    batch: Batch,
    expected: Sequence[Contribution],
    choices: Sequence[tuple[Tensor, str]],
    generator: torch.Generator,
) -> tuple[Tensor, Batch] | None:
    """Which examples (``kept`` [b]) add something else when their companions are others, and that other batch.

    The batch is as large and they stand at the same places.  So the same kernels run on the same numbers, and what
    comes out has the same bits; where a device adds up in an order of its own each time, a rounding is allowed for.

    Args:
        gradients: of ``model``.
        model: whose gradients they are.
        batch: the examples.
        expected: what those that each of ``choices`` keeps add among these companions.
        choices: pairs of examples to keep, [b] bool, and the kind of companions that they get.
        generator: of what is made up.

    Returns:
        None where everything is the same.
    """
    for (kept, kind), alone in zip(choices, expected, strict=True):
        others = batch.with_others(kept, kind, generator)
        among = contribution(others.through(gradients, model), kept)
        if alone.equals(among):
            continue
        again = contribution(batch.through(gradients, model), kept)
        if not alone.equals(again):
            room = allowed(alone, contribution(moved_by_rounding(gradients, model, batch, generator), kept))
            if max(alone.apart(again), alone.apart(among)) <= min(room, MOST_BY_ORDER):
                continue
        return kept, others
    return None


def mixing_layer(model: nn.Module, one: Batch, other: Batch, kept: Tensor) -> str:
    """The first module to finish whose input agrees on the examples that ``kept`` marks and whose output does not."""
    rows = kept.repeat_interleave(one.copies)
    traces = [_trace(model, batch, rows) for batch in (one, other)]
    for (name, before, after), (_, other_before, other_after) in zip(*traces, strict=False):
        if _equal(before, other_before) and not _equal(after, other_after):
            return name
    return type(model).__name__


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True))


def _trace(model: nn.Module, batch: Batch, rows: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """(name, rows of the input, rows of the output) of every module, innermost first."""
    found: list[tuple[str, Tensor, Tensor]] = []
    entered: list[Tensor | None] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        first = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        # a copy, because an in-place layer overwrites it
        entered.append(None if first is None or not _by_image(first, rows) else first[rows].detach().clone())

    def after(name: str, output: Any) -> None:
        row = entered.pop()
        if row is not None and isinstance(output, Tensor) and _by_image(output, rows):
            found.append((name, row, output[rows].detach().clone()))

    with torch.no_grad(), batch.drawn_in(model), watched(model, before, after):
        model(batch.images)
    return found


def _by_image(tensor: Tensor, rows: Tensor) -> bool:
    return tensor.dim() > 0 and len(tensor) == len(rows)


@contextmanager
def watched(model: nn.Module, before: Any, after: Any) -> Iterator[None]:
    """``before(module, inputs)`` and ``after(name, output)`` are called around each module's forward pass."""
    handles = []
    for name, module in model.named_modules():
        named = f"{name} ({type(module).__name__})" if name else type(module).__name__
        handles += [
            module.register_forward_pre_hook(before),
            module.register_forward_hook(lambda module, inputs, output, named=named: after(named, output)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
