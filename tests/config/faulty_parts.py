"""Parts of a user's own that fail, each on the line that says so."""

import sys

import numpy as np
import torch
from torch import nn

from runner.data.images import Decoded, ImageSet


class FailingNet(nn.Module):
    def __init__(self, classes, size, channels):
        super().__init__()
        self.layer = nn.Linear(channels * size * size, classes)

    def forward(self, images):
        if images.device.type != "meta":
            raise ValueError("no such thing")  # the network fails here
        return self.layer(images.flatten(1))


def failing_net(*, in_channels, num_classes, image_size):
    return FailingNet(num_classes, image_size, in_channels)


def failing_factory(*, in_channels, num_classes, image_size):
    raise KeyError("width")  # the factory fails here


def few_outputs(*, in_channels, num_classes, image_size, outputs=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, outputs))


class Hidden(nn.Sequential):
    """Decides by values, so that shapes alone do not show what it gives."""

    def forward(self, images):
        if float(images.sum()) > 1e30:
            return images
        return super().forward(images)


def hidden_outputs(*, in_channels, num_classes, image_size):
    return Hidden(nn.Flatten(), nn.Linear(in_channels * image_size**2, 5))


def two_answers(*, in_channels, num_classes, image_size):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(in_channels * image_size**2, num_classes)

        def forward(self, images):
            return self.layer(images.flatten(1)), images

    return Two()


def failing_source(config):
    raise ZeroDivisionError("by nothing")  # the source fails here


def exiting_source(config):
    sys.exit(0)  # the source ends the program here


def plain_source(config):
    images = np.zeros((20, 8, 8, 1), np.uint8)
    train = ImageSet(images=images, labels=np.arange(20) % 2, rows=np.arange(20), names=None)
    return Decoded(train=train, val=None, test=None, classes=("a", "b"), fingerprint="0" * 64)


class FailingOptimizer(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("cannot step")  # the optimizer fails here


class FailingSink:
    requires = "numpy"

    def __init__(self, config):
        del config

    def start(self, info):
        raise OSError("no server")  # the tracker fails here

    def log(self, *args):
        pass

    def finish(self, *args):
        pass
