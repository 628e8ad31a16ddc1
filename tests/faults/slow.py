"""A network that takes its time, and counts whom it takes it for."""

import time

from torch import nn

seen = []
"""Images of each forward pass of any of these networks."""


class Slow(nn.Module):
    """A linear layer that waits for each image."""

    def __init__(self, inputs, classes, seconds):
        super().__init__()
        self.layer = nn.Linear(inputs, classes)
        self.seconds = seconds

    def forward(self, images):
        """Every image takes ``seconds``."""
        seen.append(len(images))
        time.sleep(self.seconds * len(images))
        return self.layer(images.flatten(1))


def build(*, in_channels, num_classes, image_size, seconds=0.0):
    """See ``Slow``."""
    return Slow(in_channels * image_size**2, num_classes, seconds)
