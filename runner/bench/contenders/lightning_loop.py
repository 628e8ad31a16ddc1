"""Lightning, as its own guides show it.

As shipped: ``Trainer()`` with its default logger, progress bar and checkpoints, a ``DataLoader`` over a
``TensorDataset`` and torch's default optimizer implementation.  Option ``logging`` adds what its guides add: the loss
by ``self.log`` and torchmetrics' accuracy.  Option ``same_input`` takes batches by index and the fused optimizer, as in
the bare loop, and switches logger, progress bar and checkpoints off; ``bf16`` adds its mixed precision, channels_last
and the search for kernels.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from runner.bench.interleaving import TimedSteps
from runner.bench.task import PreparedTask, Task, load_prepared


class _Module(lightning.LightningModule):
    def __init__(self, given: PreparedTask, *, fused: bool, logs: bool) -> None:
        super().__init__()
        self.model = given.model
        self._given = given
        self._fused = fused
        self._accuracy = None
        if logs:
            self._accuracy = MulticlassAccuracy(int(given.labels.max()) + 1, average="micro")

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, labels = batch
        logits = self.model(images)
        loss = cross_entropy(logits, labels)
        if self._accuracy is not None:
            self._accuracy(logits, labels)
            self.log("loss", loss, prog_bar=True)
            self.log("accuracy", self._accuracy, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        given = self._given
        return given.optimizer(fused=self._fused)


class _TimedStepsCallback(Callback):
    def __init__(self, timed_steps: TimedSteps, given: PreparedTask) -> None:
        self._timed_steps = timed_steps
        self._given = given
        self._steps = iter(timed_steps)
        next(self._steps)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if self._timed_steps.proving:
            self._given.seed_layers(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if self._timed_steps.proving:
            self._timed_steps.note(outputs["loss"].item())
        next(self._steps)


class _Batches(IterableDataset):
    def __init__(self, given: PreparedTask) -> None:
        self._given = given

    def __iter__(self) -> Iterator[list[Tensor]]:
        return map(list, self._given.batches())


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train as shipped, with its ``logging``, or with the ``same_input`` and maybe in ``bf16``."""
    # It advises on the number of workers and devices at its start.
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    half = "bf16" in options
    given = load_prepared(prepared, memory_format=torch.channels_last if half else None)
    same_input = "same_input" in options
    loader: DataLoader[Any]
    if same_input:
        loader = DataLoader(_Batches(given), batch_size=None)
        changes: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    else:
        loader = DataLoader(TensorDataset(given.images, given.labels), batch_sampler=given.rows.tolist())
        changes = {}
    if half:
        changes |= {"precision": "bf16-mixed", "benchmark": True}
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="cpu" if task.device == "cpu" else "gpu",
            devices=1,
            max_epochs=-1,
            callbacks=[_TimedStepsCallback(timed_steps, given)],
            default_root_dir=folder,
            **changes,
        )
        trainer.fit(_Module(given, fused=same_input, logs="logging" in options), loader)
