"""A network for which memory runs out, or whose numbers go wrong, at a chosen moment."""

import os
import queue

import torch
from torch import nn

ERRORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ..."),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
        " allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError,
    "other": lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
}


class Hungry(nn.Module):
    """A small network; more than ``room`` examples at once are too many from forward pass ``call`` on.

    The ``error`` that this raises is one of ``ERRORS``, or "nan" for numbers that are none.
    """

    def __init__(self, layers, *, room, call, rank, phase, error):
        super().__init__()
        self.layers = layers
        self.room, self.call, self.rank, self.phase, self.error = room, call, rank, phase, error
        # a private run refuses a model that counts; what a queue holds it does not look into
        self.calls = queue.SimpleQueue()

    def forward(self, images):
        """Runs the layers first, so that statistics and random numbers have moved when memory runs out."""
        logits = self.layers(images)
        if self.training == (self.phase == "training"):
            self.calls.put(None)
            mine = self.rank is None or os.environ.get("RANK", "0") == str(self.rank)
            if mine and self.calls.qsize() >= self.call and len(images) > self.room:
                if self.error == "nan":
                    return logits * float("nan")
                raise ERRORS[self.error]()
        return logits


def build(*, in_channels, num_classes, image_size, room=None, call=1, rank=None, phase="training", error="cuda",
          norm=False):  # fmt: skip
    """See ``Hungry``; ``room`` None never refuses, ``norm`` puts a BatchNorm layer into the network."""
    size = in_channels * image_size**2
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(size, 24), nn.BatchNorm1d(24) if norm else nn.Identity(), nn.Tanh(),
        nn.Linear(24, num_classes),
    )  # fmt: skip
    return Hungry(layers, room=1_000_000 if room is None else room, call=call, rank=rank, phase=phase, error=error)
