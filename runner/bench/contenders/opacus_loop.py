"""Opacus, as its own examples show the loop: ``make_private``, its Poisson ``DataLoader``, its hooks, its optimizer.

Option ``ghost``, what its guides advise for speed: ghost clipping, batches by index, drawn by one comparison of random
numbers with the rate, and the fused optimizer.  Its noise is torch's ordinary generator in both, as it comes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from opacus import PrivacyEngine
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, load_prepared


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train as shipped, or with ``ghost`` clipping."""
    # It warns of its generator, and torch of hooks on inputs that need no gradient.
    warnings.simplefilter("ignore")
    ghost = "ghost" in options
    given = load_prepared(prepared)
    loader = DataLoader(TensorDataset(given.images, given.labels), batch_size=task.batch)
    made = PrivacyEngine().make_private(
        module=given.model,
        optimizer=given.optimizer(fused=ghost),
        criterion=torch.nn.CrossEntropyLoss(),
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=not ghost,
        grad_sample_mode="ghost" if ghost else "hooks",
    )
    model, optimizer, criterion, loader = made if ghost else (*made[:2], torch.nn.CrossEntropyLoss(), made[2])
    steps = iter(timed_steps)
    next(steps)
    while True:
        batches = _drawn(given.images, given.labels, task) if ghost else iter(loader)
        for images, labels in batches:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            next(steps)


def _drawn(images: Tensor, labels: Tensor, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    rate = task.batch / len(labels)
    for _ in range(task.block):
        rows = (torch.rand(len(labels)) < rate).nonzero()[:, 0]
        yield images.index_select(0, rows), labels.index_select(0, rows)
