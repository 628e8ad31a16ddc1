"""Per-example gradients of one parameter: their norms, and their weighted sum.

Clipping needs the norm of every example's gradient, and then one weighted sum over the examples.  Neither needs the b
gradients themselves where a layer is a product: the gradient of a linear layer is sum_t g_t x_t^T over positions t, so
that |gradient|^2 = sum_tu (g_t . g_u)(x_t . x_u) (ghost norms: Goodfellow 2015; Li et al. 2022, "Large language models
can be strong differentially private learners", section 4), and the weighted sum is one ordinary product of the layer's
inputs with the weighted output gradients (book-keeping: Bu et al. 2023, "Differentially private optimization on large
model at small cost").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

_ADDED_UP = 1 << 16
"""Numbers whose norm is taken at once: over millions of float32 squares torch's own sum misses 1e-4 of the norm, which
would be clipped to that much more than C; in parts it is 1e-6, for a tenth more time."""


class ExampleGradients(Protocol):
    """The gradients of one parameter for b examples, in at least float32."""

    def norms(self) -> Tensor:
        """The L2 norm of each [b]; not finite where the gradient is not."""
        ...

    def weighted_sum(self, weights: Tensor, dropped: Tensor | None) -> Tensor:
        """sum_i weights_i gradient_i, in the parameter's shape.

        ``dropped`` [b] bool marks examples to leave out whatever they hold, because zero times infinity is not zero;
        None says that there are none.
        """
        ...

    def rows(self) -> Tensor:
        """The gradients themselves [b, *shape]."""
        ...


@dataclass(frozen=True)
class Rows:
    """Gradients that are at hand, one row [*shape] per example."""

    gradients: Tensor

    def norms(self) -> Tensor:
        """See ``ExampleGradients``."""
        flat = self._in_memory_order().flatten(1)
        norms = [torch.linalg.vector_norm(part, dim=1) for part in flat.split(_ADDED_UP, dim=1)]
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms), dim=0)

    def weighted_sum(self, weights: Tensor, dropped: Tensor | None) -> Tensor:
        """See ``ExampleGradients``."""
        ordered = self._in_memory_order()
        total = torch.mv(without(ordered.flatten(1), dropped).t(), weights).view(ordered.shape[1:])
        order = self._order()
        return total.permute([order.index(dimension) for dimension in range(len(order))])

    def rows(self) -> Tensor:
        """See ``ExampleGradients``."""
        return self.gradients

    def _order(self) -> list[int]:
        """The parameter's dimensions from the farthest to the nearest in memory: channels_last must not be copied."""
        strides = self.gradients.stride()[1:]
        return sorted(range(len(strides)), key=lambda dimension: -strides[dimension])

    def _in_memory_order(self) -> Tensor:
        return self.gradients.permute(0, *(dimension + 1 for dimension in self._order()))


@dataclass(frozen=True)
class Products:
    """Gradients of a linear layer's weight: sum over positions t of outputs_t inputs_t^T."""

    inputs: Tensor
    """[b, T, K]"""
    outputs: Tensor
    """Gradients of the layer's output, [b, T, C]."""

    def norms(self) -> Tensor:
        """See ``ExampleGradients``."""
        return product_norms(self.inputs, self.outputs)

    def weighted_sum(self, weights: Tensor, dropped: Tensor | None) -> Tensor:
        """See ``ExampleGradients``."""
        inputs, outputs = without(self.inputs, dropped), without(self.outputs, dropped)
        return (outputs * weights.view(-1, 1, 1)).flatten(0, 1).t() @ inputs.flatten(0, 1)

    def rows(self) -> Tensor:
        """See ``ExampleGradients``."""
        return self.outputs.transpose(1, 2) @ self.inputs


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """Gradients of a two-dimensional convolution's weight, of which the norms are known."""

    inputs: Tensor
    """[b * copies, C_in, H, W], in any floating type."""
    outputs: Tensor
    """Gradients of the layer's output, [b * copies, C_out, H', W']."""
    layer: nn.Conv2d
    known_norms: Tensor
    """[b]"""
    copies: int
    """Images of each example, side by side."""

    def norms(self) -> Tensor:
        """See ``ExampleGradients``."""
        return self.known_norms

    def weighted_sum(self, weights: Tensor, dropped: Tensor | None) -> Tensor:
        """See ``ExampleGradients``."""
        if self.copies > 1:
            weights = weights.repeat_interleave(self.copies)
            dropped = None if dropped is None else dropped.repeat_interleave(self.copies)
        return self._summed(without(self.inputs, dropped), without(self.outputs, dropped) * weights.view(-1, 1, 1, 1))

    def rows(self) -> Tensor:
        """See ``ExampleGradients``."""
        pairs = zip(self.inputs.split(self.copies), self.outputs.split(self.copies), strict=True)
        return torch.stack([self._summed(inputs, outputs) for inputs, outputs in pairs])

    def _summed(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        layer = self.layer
        return torch.ops.aten.convolution_backward(
            outputs,
            inputs.to(outputs.dtype),
            layer.weight.detach(),
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
            False,
            [0, 0],
            layer.groups,
            [False, True, False],
        )[1]


def product_norms(inputs: Tensor, outputs: Tensor) -> Tensor:
    """The norms [n] of sum_t outputs_t inputs_t^T for ``inputs`` [n, T, K] and ``outputs`` [n, T, C].

    The double sum over positions cancels: in float32 a small gradient made of large terms would have a wrong norm and
    escape its clipping.  So it is taken in float64.
    """
    if inputs.shape[1] == 1:
        return torch.linalg.vector_norm(inputs, dim=(1, 2)) * torch.linalg.vector_norm(outputs, dim=(1, 2))
    x, g = inputs.double(), outputs.double()
    squares = (torch.bmm(x, x.transpose(1, 2)) * torch.bmm(g, g.transpose(1, 2))).sum(dim=(1, 2))
    return squares.clamp(min=0.0).sqrt().to(outputs.dtype)


def over_copies(rows: Tensor, copies: int) -> Tensor:
    """What belongs to each image, [b * copies, ...], summed over the images of each example: [b, ...]."""
    return rows if copies == 1 else rows.unflatten(0, (-1, copies)).sum(1)


def without(rows: Tensor, dropped: Tensor | None) -> Tensor:
    """``rows`` [b, ...] with zeros for the examples that ``dropped`` [b] marks."""
    return rows if dropped is None else rows.masked_fill(dropped.view(-1, *[1] * (rows.dim() - 1)), 0.0)
