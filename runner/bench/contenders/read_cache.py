"""The runner's own input: decoded once, then batches by row numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, configure
from runner.data import augment as augmentation
from runner.data.feed import Feed
from runner.data.open import open_data
from runner.training.gradients.batch_sampler import ShuffledSampler


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Read ``prepared``, a folder of images, and keep what was decoded beside it; there are no variants."""
    cache = prepared.with_name(f"{prepared.name}-cache")
    config = configure([*task.overrides, f"data.root={prepared}", f"data.cache_dir={cache}"])
    data = open_data(config.data)
    augment = config.data.augment
    feed = Feed(data.train, data, device=torch.device("cpu"), dtype=torch.float32, channels_last=True, augment=augment)
    if timed_steps.proving:
        for step in timed_steps:
            pixels, labels = feed.batch(torch.arange(step * task.batch, (step + 1) * task.batch), None)
            timed_steps.note(float((pixels.abs().mean(dim=(1, 2, 3)) * (1 + labels)).mean()))
    stream = ShuffledSampler(len(data.train), task.batch, config.seed)
    for step in timed_steps:
        rows = stream.rows(step)
        feed.batch(rows, augmentation.draw(augment, config.seed, step, len(rows)))
