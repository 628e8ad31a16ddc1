"""A script that an expert tunes for one model, one precision and one GPU; it runs on a CPU as well.

Options: ``bf16`` or ``fp16`` for autocast (float32 otherwise), with a ``GradScaler`` for float16; ``contiguous`` for
images in planes, which in float32 is how most published scripts come.  All else is what tuning guides advise: images on
the device and normalised beforehand, channels_last, kernels searched for, TensorFloat-32, a fused optimizer; nothing is
read back.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from runner.bench.interleaving import TimedSteps
from runner.bench.named_models import INIT_SCALE
from runner.bench.task import Task, load_prepared

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train in the precision and the memory format that ``options`` name."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    planes = "contiguous" in options
    given = load_prepared(prepared, memory_format=torch.contiguous_format if planes else torch.channels_last)
    model, images, labels, rows = given.model, given.gather(), given.labels, given.rows
    kind = labels.device.type
    dtype = next((_AUTOCAST[option] for option in options if option in _AUTOCAST), None)
    optimizer = given.optimizer(fused=True)
    scaler = torch.amp.GradScaler(kind, init_scale=INIT_SCALE, enabled=dtype is torch.float16)
    for step in timed_steps:
        if timed_steps.proving:
            given.seed_layers(step)
        batch = rows[step % len(rows)]
        with torch.autocast(kind, dtype, enabled=dtype is not None):
            loss = cross_entropy(model(images(batch)), labels.index_select(0, batch))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if timed_steps.proving:
            timed_steps.note(loss.item())
