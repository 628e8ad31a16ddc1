"""The loop that an expert writes by hand for this one case: batches by index, a fused optimizer, nothing else."""

from __future__ import annotations

from pathlib import Path

from torch.nn.functional import cross_entropy

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, load_prepared


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train; there are no variants."""
    given = load_prepared(prepared)
    model, images, labels, rows = given.model, given.gather(), given.labels, given.rows
    optimizer = given.optimizer(fused=True)
    for step in timed_steps:
        batch = rows[step % len(rows)]
        loss = cross_entropy(model(images(batch)), labels.index_select(0, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if timed_steps.proving:
            timed_steps.note(loss.item())
