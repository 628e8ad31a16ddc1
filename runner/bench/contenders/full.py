"""The loop by hand with what a run needs: a cosine schedule, metrics on the device, a record every 50 updates."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, load_prepared

_EVERY = 50


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train; there are no variants."""
    given = load_prepared(prepared)
    model, images, labels, rows = given.model, given.gather(), given.labels, given.rows
    optimizer = given.optimizer(fused=True)
    group = optimizer.param_groups[0]
    horizon = 100_000 * task.block
    loss_sum = torch.zeros(())
    correct = torch.zeros((), dtype=torch.int64)
    with tempfile.TemporaryFile("w") as log:
        for step in timed_steps:
            # So far from its end the schedule changes nothing that the proof could see; its cost is there.
            group["lr"] = given.lr * 0.5 * (1 + math.cos(math.pi * step / horizon))
            batch = rows[step % len(rows)]
            target = labels.index_select(0, batch)
            logits = model(images(batch))
            loss = cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
            correct += (logits.detach().argmax(1) == target).sum()
            if (step + 1) % _EVERY == 0:
                record = {
                    "step": step + 1,
                    "loss": loss_sum.item() / _EVERY,
                    "accuracy": correct.item() / (_EVERY * len(batch)),
                    "lr": group["lr"],
                }
                log.write(json.dumps(record) + "\n")
                log.flush()
                loss_sum.zero_()
                correct.zero_()
            if timed_steps.proving:
                timed_steps.note(loss.item())
