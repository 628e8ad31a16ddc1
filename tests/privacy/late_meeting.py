"""Networks whose examples meet where no test before a run can see it; a run finds out."""

import queue

import torch
from torch import nn

FROM = 20
"""Examples of a batch from which they meet."""
LATE = 60
"""Calls after which they meet."""
seen = queue.SimpleQueue()


class Late(nn.Module):
    """A linear model of what ``mixed`` makes of the pixels."""

    def __init__(self, pixels, classes):
        super().__init__()
        self.register_buffer("average", torch.zeros(pixels))
        self.head = nn.Linear(pixels, classes)

    def forward(self, images):
        return self.head(self.mixed(images.flatten(1)))


class InLargeBatches(Late):
    def mixed(self, rows):
        return rows - rows.mean(0) if len(rows) >= FROM else rows


class AfterManyCalls(Late):
    """The counter lies where nobody looks."""

    def mixed(self, rows):
        seen.put(None)
        return rows - rows.mean(0) if seen.qsize() > LATE else rows


class RemembersLate(Late):
    """A buffer that changes from some call on."""

    def mixed(self, rows):
        seen.put(None)
        if seen.qsize() > LATE:
            self.average += rows.detach().mean(0)
        return rows


def build(*, in_channels, num_classes, image_size, kind):
    while not seen.empty():
        seen.get()
    return {each.__name__: each for each in Late.__subclasses__()}[kind](in_channels * image_size**2, num_classes)
