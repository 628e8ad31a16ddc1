"""A linear model that sends its own process a signal in a forward pass: an interruption at a known step."""

import os
import signal

from torch import nn


class Signalling(nn.Module):
    """Sends the signal ``sends`` in training pass number ``call`` of process ``rank``."""

    def __init__(self, layers, *, sends, call, rank):
        super().__init__()
        self.layers = layers
        self.sends, self.call, self.rank = sends, call, rank
        self.calls = 0

    def forward(self, images):
        self.calls += self.training
        if self.training and self.calls == self.call and os.environ.get("RANK", "0") == str(self.rank):
            os.kill(os.getpid(), signal.Signals[self.sends])
        return self.layers(images)


def build(*, in_channels, num_classes, image_size, sends="SIGTERM", call=0, rank=0):
    """See ``Signalling``; ``call`` 0 sends nothing."""
    layers = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
    return Signalling(layers, sends=sends, call=call, rank=rank)
