"""Accelerate, as its own guides show the loop.

As shipped: a ``DataLoader`` over a ``TensorDataset``, everything prepared, ``accumulate``, torch's default optimizer
implementation and a scheduler.  Option ``same_input``: batches by index and the fused optimizer, as in the bare loop.
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, load_prepared


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train as shipped, or with the ``same_input``."""
    same_input = "same_input" in options
    given = load_prepared(prepared)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=1)
    optimizer = given.optimizer(fused=same_input)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    rows = given.rows.tolist()
    loader = DataLoader(TensorDataset(given.images, given.labels), batch_sampler=rows)
    if same_input:
        model, optimizer, scheduler = accelerator.prepare(given.model, optimizer, scheduler)
    else:
        model, optimizer, loader, scheduler = accelerator.prepare(given.model, optimizer, loader, scheduler)
    steps = iter(timed_steps)
    next(steps)
    while True:
        for images, labels in given.batches() if same_input else loader:
            with accelerator.accumulate(model):
                loss = cross_entropy(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if timed_steps.proving:
                timed_steps.note(loss.item())
            next(steps)
