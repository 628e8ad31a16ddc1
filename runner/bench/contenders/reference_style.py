"""The style of torchvision's reference script for classification, in our own words.

As shipped: a ``DataLoader``, the default optimizer, and after every update the loss and the accuracy as Python numbers
in smoothed meters.  Option ``same_input``: batches by index and the fused optimizer, as in the bare loop.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, load_prepared


class _Meter:
    def __init__(self) -> None:
        self.latest: deque[float] = deque(maxlen=20)
        self.total = 0.0
        self.count = 0

    def update(self, value: float, n: int = 1) -> None:
        self.latest.append(value)
        self.total += value * n
        self.count += n


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train as shipped, or with the ``same_input``."""
    same_input = "same_input" in options
    given = load_prepared(prepared)
    model = given.model
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = given.optimizer(fused=same_input)
    loader = DataLoader(TensorDataset(given.images, given.labels), batch_sampler=given.rows.tolist())
    meters = {name: _Meter() for name in ("loss", "acc1", "acc5", "lr", "img/s")}
    steps = iter(timed_steps)
    next(steps)
    while True:
        for images, target in given.batches() if same_input else loader:
            began = time.perf_counter()
            output = model(images)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            first, five = _accuracy(output, target)
            meters["loss"].update(loss.item())
            meters["lr"].update(optimizer.param_groups[0]["lr"])
            meters["acc1"].update(first.item(), len(images))
            meters["acc5"].update(five.item(), len(images))
            meters["img/s"].update(len(images) / (time.perf_counter() - began))
            if timed_steps.proving:
                timed_steps.note(loss.item())
            next(steps)


def _accuracy(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        right = output.topk(5, dim=1).indices.t().eq(target[None])
        return right[:1].flatten().sum() * (100.0 / len(target)), right.flatten().sum() * (100.0 / len(target))
