"""The common task of all contenders (weights, examples and their order), written once to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.config.compose import Composer
from runner.config.load import load_config, typed_keys
from runner.config.rules.rules import check
from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.gradients.batch_sampler import fold_in
from runner.training.parts import build_parts

if TYPE_CHECKING:
    from runner.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its data and how much of it makes a block."""

    name: str
    about: str
    """For the table: model, input and batch."""
    overrides: tuple[str, ...]
    """The recipe, as it is typed."""
    batch: int
    block: int
    """Updates in a block; also in an epoch, so that what the runner does at an epoch's end is in every block."""
    proof_steps: int = 20
    """Updates whose losses must agree before any time is taken."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""

    @property
    def request(self) -> tuple[str, ...]:
        """The whole recipe: one epoch a block, no evaluation, and everything else as the runner comes."""
        return (
            "data=synthetic",
            f"data.num_train={self.batch * self.block}",
            f"data.batch_size={self.batch}",
            "data.val_fraction=0",
            "data.test_fraction=0",
            "trainer.epochs=100000",
            "trainer.save_every=100000",
            "scheduler=constant",
            "optimizer.decay_norm_and_bias=true",
            # Slow learning keeps rounding from growing, so that the proof can be strict.
            "optimizer.lr=0.001",
            "hardware=cpu" if self.device == "cpu" else f"hardware.device={self.device}",
            # Without measuring: all loops are given the same.
            "hardware.channels_last=true",
            "tracker=none",
            *self.overrides,
        )


TASKS = {
    task.name: task
    for task in (
        Task(
            name="tiny_mlp",
            about="MLP 64-64-10, 8 x 8 grey, batch 64",
            overrides=("data.image_size=8", "data.channels=1", "model=mlp", "model.hidden=[64]"),
            batch=64,
            block=500,
        ),
        Task(
            name="small_cnn",
            about="small_cnn, 32 px, batch 64",
            overrides=("data.image_size=32", "model=small_cnn"),
            batch=64,
            block=20,
        ),
        Task(
            name="resnet18",
            about="ResNet-18 with the small-image stem, 32 px, batch 16",
            overrides=("data.image_size=32", "model=resnet18"),
            batch=16,
            block=4,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """A task on disk, as loops that know nothing of the runner take it."""

    model: torch.nn.Module
    """With its starting weights, in the memory format that the runner would use."""
    images: torch.Tensor
    """float32 [N, C, H, W], normalised."""
    labels: torch.Tensor
    """int64 [N]."""
    rows: torch.Tensor
    """int64 [steps, B]: the examples of each update of the first epoch, or of the whole proof where that is longer.
    With images and labels on the device."""
    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool
    seed: int

    def seed_layers(self, step: int) -> None:
        """Make dropout and its kin draw what they draw in update ``step`` of the runner; for proofs."""
        torch.manual_seed(fold_in(self.seed, step, 0))

    def gather(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Gives the images [B, C, H, W] of row numbers [B] in the memory format of ``images``.

        To gather from ``images`` themselves would write images in planes, whatever their format.
        """
        if self.images.is_contiguous():
            return partial(torch.index_select, self.images, 0)
        stored = self.images.permute(0, 2, 3, 1)
        return lambda rows: stored.index_select(0, rows).permute(0, 3, 1, 2)

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images and labels of each update of the first epoch, by row numbers."""
        gather = self.gather()
        for row in self.rows:
            yield gather(row), self.labels.index_select(0, row)

    def optimizer(self, *, fused: bool) -> torch.optim.Optimizer:
        """SGD over the model, by fused kernels or as torch comes."""
        return torch.optim.SGD(
            self.model.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=True if fused else None,
        )


def configure(request: Sequence[str]) -> RunConfig:
    """The checked configuration of a request."""
    # Late: a loop written by hand shares this module, and must not pay for what it does not use.

    composer = Composer(caller=Path.cwd())
    composed = composer.compose(list(request))
    config = load_config(composed, composer.option_defaults(composed), typed_keys=typed_keys(composed.hydra))
    check(config)
    return config


def prepare(task: Task, path: Path) -> None:
    """Write ``task`` to ``path`` for ``load_prepared``."""
    config = configure(task.request)
    data = open_data(config.data)
    device = detect_device(config.hardware)
    plan = build_plan(config, data, device, processes=1)
    parts = build_parts(plan, data, SingleProcess(torch_device(device.kind)))
    images, labels = parts.feed.batch(torch.arange(len(data.train)), None)
    group = parts.optimizer.param_groups[0]
    content: dict[str, Any] = {
        "model": parts.model,
        "images": images,
        "labels": labels,
        "rows": torch.stack([parts.sampler.rows(step) for step in range(max(task.block, task.proof_steps))]).to(
            images.device
        ),
        "lr": plan.semantic.optimizer.lr,
        "momentum": group["momentum"],
        "weight_decay": group["weight_decay"],
        "nesterov": group["nesterov"],
        "seed": plan.semantic.seed,
    }
    torch.save(content, path)


def load_prepared(path: Path, *, memory_format: torch.memory_format | None = None) -> PreparedTask:
    """Read what ``prepare`` wrote in this very benchmark; the file is trusted, for it holds a pickled model.

    ``memory_format`` of model and images; None for the one that the runner would use.
    """
    content = torch.load(path, weights_only=False)
    if memory_format is not None:
        content["model"] = content["model"].to(memory_format=memory_format)
        content["images"] = content["images"].contiguous(memory_format=memory_format)
    return PreparedTask(**content)
