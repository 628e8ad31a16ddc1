"""float16 on a CPU: the runner's arithmetic beside torch's own autocast."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from runner.bench.paired_ratios import paired_ratio
from runner.bench.section import Section
from runner.bench.settings import Settings
from runner.bench.task import configure
from runner.errors import RunError
from runner.models.build import build_network
from runner.training.precision.cpu_float16 import half_forward

_BATCH = 2
"""torch's own backward of a float16 convolution takes seconds an image."""
_PAIRS = 5
_SCALE = 1024.0
"""Loss scale, as float16 needs one."""


def measure(settings: Settings) -> Iterator[Section]:
    """One section: a forward and backward pass of ResNet-18 on 32 px images, in this process, in turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    config = configure(("model=resnet18", "tracker=none")).model
    model = build_network(config, channels=3, num_classes=10, image_size=32, norm="batch")
    images, labels = torch.randn(_BATCH, 3, 32, 32), torch.arange(_BATCH)
    ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "float32": nullcontext,
        "runner's float16": half_forward,
        "torch's autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    }
    reference = _gradient(model, images, labels, nullcontext)[1].double()
    times: dict[str, list[float]] = {way: [] for way in ways}
    cosines = dict.fromkeys(ways, 1.0)
    for pair in range(_PAIRS):
        for way in ways if pair % 2 == 0 else reversed(ways):
            seconds, gradient = _gradient(model, images, labels, ways[way])
            times[way].append(seconds)
            cosine = torch.nn.functional.cosine_similarity(gradient.double(), reference, dim=0).item()
            cosines[way] = min(cosines[way], cosine)
    torch.set_num_threads(threads)
    ours = times["runner's float16"]
    yield Section(
        name="half",
        title=f"float16 on a CPU: ResNet-18, 32 px, batch {_BATCH}, forward and backward",
        about=f"Processor time; {_PAIRS} pairs in turns.  The last column compares the gradient with that of float32.",
        columns=("arithmetic", "median", "over the runner's float16", "cosine of the gradient, the least"),
        rows=tuple(
            (
                way,
                f"{sorted(seconds)[len(seconds) // 2]:.3f} s",
                "1" if seconds is ours else str(paired_ratio(seconds, ours)),
                f"{cosines[way]:.5f}",
            )
            for way, seconds in times.items()
        ),
        samples=tuple(
            {"section": "half", "contender": way, "round": index, "cpu_seconds": seconds, "cosine": cosines[way]}
            for way, found in times.items()
            for index, seconds in enumerate(found)
        ),
    )


def _gradient(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    way: Callable[[], AbstractContextManager[Any]],
) -> tuple[float, torch.Tensor]:
    """Processor seconds of a pass, and its gradient, flat."""
    model.zero_grad(set_to_none=True)
    start = time.process_time()
    with way():
        loss = torch.nn.functional.cross_entropy(model(images), labels)
    (loss * _SCALE).backward()
    seconds = time.process_time() - start
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) / _SCALE
    if not gradient.isfinite().all():
        raise RunError("the gradient overflowed: lower the loss scale")
    return seconds, gradient
