"""Networks."""

from torch import nn


def tiny_conv(*, in_channels: int, num_classes: int, image_size: int, width: int = 8) -> nn.Module:
    """One convolution, an average over the image, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )
