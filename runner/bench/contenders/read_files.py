"""Batches as most scripts make them: torchvision's ``ImageFolder``, transforms image by image, ``DataLoader``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import transforms as v1
from torchvision.transforms import v2

from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, configure
from runner.config.schema import RunConfig
from runner.data.cache.image_store import MARGIN
from runner.data.open import RGB_MEAN, RGB_STD


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Read ``prepared``, a folder of images.  Option ``tuned``: decode by torchvision and change tensors of 8 bits."""
    config = configure(task.overrides)
    tuned = "tuned" in options
    changes = _tensor_changes(config) if tuned else _pillow_changes(config)
    if timed_steps.proving:
        changes = _only_fitted(config)
    images = ImageFolder(
        str(prepared), transform=changes, **({"loader": _tensor} if tuned and not timed_steps.proving else {})
    )
    batches = (
        DataLoader(Subset(images, range(task.proof_steps * task.batch)), batch_size=task.batch)
        if timed_steps.proving
        else DataLoader(images, batch_size=task.batch, shuffle=True)
    )
    endless = _endless(batches)
    for _ in timed_steps:
        pixels, labels = next(endless)
        if timed_steps.proving:
            timed_steps.note(float((pixels.abs().mean(dim=(1, 2, 3)) * (1 + labels)).mean()))


def _endless(batches: DataLoader[Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from batches


def _pillow_changes(config: RunConfig) -> Callable[[Any], torch.Tensor]:
    augment, size = config.data.augment, config.data.image_size
    cut = (
        v1.RandomResizedCrop(size, scale=tuple(augment.crop_area))
        if augment.random_resized_crop
        else v1.RandomCrop(size, padding=augment.crop_padding)
    )
    return v1.Compose([cut, v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(RGB_MEAN, RGB_STD)])


def _tensor_changes(config: RunConfig) -> Callable[[Any], torch.Tensor]:
    augment, size = config.data.augment, config.data.image_size
    cut = (
        v2.RandomResizedCrop(size, scale=tuple(augment.crop_area), antialias=True)
        if augment.random_resized_crop
        else v2.RandomCrop(size, padding=augment.crop_padding)
    )
    return v2.Compose(
        [cut, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(RGB_MEAN, RGB_STD)]
    )


def _only_fitted(config: RunConfig) -> Callable[[Any], torch.Tensor]:
    size = config.data.image_size
    assert size is not None
    fitted = [v1.Resize(round(MARGIN * size)), v1.CenterCrop(size)] if config.data.augment.random_resized_crop else []
    return v1.Compose([*fitted, v1.ToTensor(), v1.Normalize(RGB_MEAN, RGB_STD)])


def _tensor(path: str) -> torch.Tensor:
    return decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
