"""Networks of fully connected layers on the flattened image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from runner.errors import RequestError


def linear(*, in_channels: int, num_classes: int, image_size: int, bias: bool = True) -> nn.Module:
    """Multinomial logistic regression: [b, C, H, W] to [b, num_classes]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes, bias=bias))


def mlp(
    *, in_channels: int, num_classes: int, image_size: int, hidden: Sequence[int] = (256, 128), bias: bool = True
) -> nn.Module:
    """A perceptron with one ReLU layer per entry of ``hidden``: [b, C, H, W] to [b, num_classes]."""
    if not hidden or any(not isinstance(width, int) or width < 1 for width in hidden):
        raise RequestError("model.hidden", list(hidden), "a list of at least one width, each >= 1")
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([in_channels * image_size**2, *hidden]):
        layers += [nn.Linear(before, after, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], num_classes, bias=bias))
