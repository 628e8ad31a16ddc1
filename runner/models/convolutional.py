"""Small convolutional networks for images of 8 to 64 pixels, without BatchNorm: they train in every recipe."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from runner.errors import RequestError
from runner.models.norm import groups_for


def small_cnn(
    *, in_channels: int, num_classes: int, image_size: int, widths: Sequence[int] = (32, 64, 128)
) -> nn.Module:
    """One 3x3 convolution, GroupNorm and ReLU per entry of ``widths``, with max-pooling by 2 in between.

    At most 4 x 4 positions, averaged over where there are more, reach the linear head.
    """
    if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
        raise RequestError("model.widths", list(widths), "a list of at least one width, each >= 1")
    side = image_size >> (len(widths) - 1)
    if side < 1:
        raise RequestError("data.image_size", image_size, f">= {2 ** (len(widths) - 1)} for {len(widths)} model.widths")
    layers: list[nn.Module] = []
    before = in_channels
    for width in widths:
        if layers:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(groups_for(width), width), nn.ReLU()]
        before = width
    last = min(side, 4)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(last), nn.Flatten(), nn.Linear(before * last**2, num_classes))


def tanh_cnn(*, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """The tanh networks that end-to-end private training is usually measured with.

    From 32 pixels, six 3x3 convolutions of 32 to 128 channels and a layer of 128 units: Papernot et al., "Tempered
    Sigmoid Activations for Deep Learning with Differential Privacy" (AAAI 2021), table 1, the CIFAR-10 network, which
    Tramer and Boneh, "Differentially Private Learning Needs Better Features" (ICLR 2021), also use.  Below, the same
    tables' two convolutions of 16 and 32 channels and a layer of 32 units for MNIST; under 16 pixels with 3x3 kernels
    and half the pooling, because the original would leave no pixels.
    """
    if image_size < 4:
        raise RequestError("data.image_size", image_size, ">= 4 for model=tanh_cnn")
    if image_size >= 32:
        layers = _tanh_stages(in_channels)
        channels, side, hidden = 128, image_size // 8, 128
    elif image_size >= 16:
        layers = [
            *(nn.Conv2d(in_channels, 16, 8, stride=2, padding=3), nn.Tanh(), nn.MaxPool2d(2, stride=1)),
            *(nn.Conv2d(16, 32, 4, stride=2), nn.Tanh(), nn.MaxPool2d(2, stride=1)),
        ]
        channels, side, hidden = 32, (image_size // 2 - 1 - 4) // 2, 32
    else:
        layers = [
            *(nn.Conv2d(in_channels, 16, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2, stride=1)),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.Tanh(), nn.MaxPool2d(2, stride=1)),
        ]
        channels, side, hidden = 32, image_size // 2 - 1, 32
    head = [nn.Flatten(), nn.Linear(channels * side**2, hidden), nn.Tanh(), nn.Linear(hidden, num_classes)]
    return nn.Sequential(*layers, *head)


def _tanh_stages(in_channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = in_channels
    for width in (32, 64, 128):
        for inputs in (before, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.Tanh()]
        layers.append(nn.MaxPool2d(2))
        before = width
    return layers
