"""Per-example parameter gradients of each kind of layer, from its input and output gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.privacy.example_gradients.low_precision import at_least_float32
from runner.privacy.example_gradients.parameter import (
    Convolutions,
    ExampleGradients,
    Products,
    Rows,
    over_copies,
    product_norms,
)

LayerRule = Callable[[nn.Module, Tensor, Tensor, int], dict[str, ExampleGradients]]
"""(layer, its input [b * copies, ...], the gradient of its output [b * copies, ...], at least float32, images of each
example) -> the gradients of b examples, one per parameter's name."""

# Weight of reading and writing a number against multiplying it: a rough figure, trials did not tell 8, 16 and 32 apart.
_WORK_PER_STORED_NUMBER = 32


def rule_for(layer: nn.Module) -> LayerRule | None:
    """The rule for ``layer``; None when there is none for its class or its settings."""
    if type(layer) is nn.Conv2d and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return None
    # the very class: a subclass may compute something else
    return _RULES.get(type(layer))


def _linear(layer: nn.Module, inputs: Tensor, outputs: Tensor, copies: int) -> dict[str, ExampleGradients]:
    size = len(outputs) // copies
    x = at_least_float32(inputs).reshape(size, -1, inputs.shape[-1])
    g = outputs.reshape(size, -1, outputs.shape[-1])
    positions, width_in, width_out = x.shape[1], x.shape[2], g.shape[2]
    weight: ExampleGradients = Products(x, g)
    if not _norms_are_cheaper(positions, width_in, width_out, x.device):
        weight = Rows(weight.rows())
    return {"weight": weight, "bias": Rows(g.sum(1))}


def _conv2d(layer: nn.Module, inputs: Tensor, outputs: Tensor, copies: int) -> dict[str, ExampleGradients]:
    assert isinstance(layer, nn.Conv2d)
    size, channels = len(outputs) // copies, outputs.shape[1]
    groups = layer.groups
    patches = _patches(layer, at_least_float32(inputs))
    # [b * groups, T, C_out / groups], a view in either memory format unless there are groups
    g = outputs.flatten(2).unflatten(1, (groups, -1)).flatten(0, 1).transpose(1, 2)
    patches, g = _in_a_row(patches, copies, groups), _in_a_row(g, copies, groups)
    if _norms_are_cheaper(patches.shape[1], patches.shape[2], g.shape[2], g.device):
        norms = product_norms(patches, g).view(size, groups)
        norms = torch.linalg.vector_norm(norms, dim=1) if groups > 1 else norms.view(size)
        weight: ExampleGradients = Convolutions(
            inputs=inputs, outputs=outputs, layer=layer, known_norms=norms, copies=copies
        )
    else:
        rows = torch.bmm(g.transpose(1, 2), patches).view(size, channels, *layer.kernel_size, -1)
        weight = Rows(rows.permute(0, 1, 4, 2, 3))
    return {"weight": weight, "bias": Rows(over_copies(outputs.flatten(2).sum(2), copies))}


def _in_a_row(positions: Tensor, copies: int, groups: int) -> Tensor:
    """The positions of an example's images in one row: [b * copies * groups, T, K] to [b * groups, copies * T, K]."""
    if copies == 1:
        return positions
    return positions.unflatten(0, (-1, copies, groups)).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def _patches(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """What each output position sees: [b * groups, T, kernel height * width * C_in / groups].

    Channels come last, so that a copy of channels_last images moves whole runs of them.
    """
    assert not isinstance(layer.padding, str)
    images = F.pad(images, (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0]))
    images = images.contiguous(memory_format=torch.channels_last)
    size, channels, *sides = images.shape
    across, channel, *steps = images.stride()
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    places = [1 + (sides[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] for i in (0, 1)]
    patches = images.as_strided(
        (size, *places, *kernel, channels),
        (across, *(stride[i] * steps[i] for i in (0, 1)), *(dilation[i] * steps[i] for i in (0, 1)), channel),
    )
    if layer.groups == 1:
        return patches.reshape(size, math.prod(places), -1)
    patches = patches.unflatten(5, (layer.groups, -1)).permute(0, 5, 1, 2, 3, 4, 6)
    return patches.reshape(size * layer.groups, math.prod(places), -1)


def _group_norm(layer: nn.Module, inputs: Tensor, outputs: Tensor, copies: int) -> dict[str, ExampleGradients]:
    assert isinstance(layer, nn.GroupNorm)
    normalised = F.group_norm(at_least_float32(inputs), layer.num_groups, eps=layer.eps)
    return _scale_and_shift(normalised, outputs, copies, summed=range(2, outputs.dim()))


def _layer_norm(layer: nn.Module, inputs: Tensor, outputs: Tensor, copies: int) -> dict[str, ExampleGradients]:
    assert isinstance(layer, nn.LayerNorm)
    normalised = F.layer_norm(at_least_float32(inputs), layer.normalized_shape, eps=layer.eps)
    return _scale_and_shift(normalised, outputs, copies, summed=range(1, outputs.dim() - len(layer.normalized_shape)))


def _scale_and_shift(normalised: Tensor, outputs: Tensor, copies: int, *, summed: range) -> dict[str, ExampleGradients]:
    """The layer computed ``normalised * weight + bias``, with the same parameters along the dimensions ``summed``."""
    weight, bias = normalised * outputs, outputs
    if summed:
        weight, bias = weight.sum(list(summed)), bias.sum(list(summed))
    return {"weight": Rows(over_copies(weight, copies)), "bias": Rows(over_copies(bias, copies))}


def _norms_are_cheaper(positions: int, width_in: int, width_out: int, device: torch.device) -> bool:
    """Whether norms from products of positions cost less than the gradients themselves (Bu et al. 2022, mixed rule).

    T^2 (K + C) multiplications, in float64, stand against K C numbers to store; what both need is left out.
    """
    if positions == 1:
        return True
    # Apple's GPUs have no float64
    return device.type != "mps" and (
        positions**2 * (width_in + width_out) < _WORK_PER_STORED_NUMBER * width_in * width_out
    )


_RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
