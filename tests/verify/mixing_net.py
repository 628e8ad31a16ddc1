"""A tiny net with the layers to which it matters how a logical batch is split."""

from torch import nn


def build(*, in_channels, num_classes, image_size, widths, batch_norm, dropout):
    layers = [nn.Conv2d(in_channels, widths[0], 3), nn.BatchNorm2d(widths[0]) if batch_norm else nn.ReLU()]
    layers += (
        [nn.Dropout(0.5), nn.Conv2d(widths[0], 4, 3), nn.Dropout(0.5)] if dropout else [nn.Conv2d(widths[0], 4, 3)]
    )
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * (image_size - 4) ** 2, num_classes))
