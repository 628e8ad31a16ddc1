"""The named trainers: presets of the one loop, each with the combinations that it allows.

``trainer._target_`` names one of these classes.  Importing this module does not import torch, so that a request that
cannot be run is refused at once.  A trainer with another *outer* loop is one more class here whose ``fit`` drives
the same ``TrainStep``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import RequestError

if TYPE_CHECKING:
    from runner.config.schema import RunConfig
    from runner.data.images import ImageData
    from runner.processes.signals import StopRequest
    from runner.records.recorder import Recorder
    from runner.training.checkpointing.checkpoint import Checkpoint
    from runner.training.parts import Parts
    from runner.training.state import FitResult


class StandardTrainer:
    """One process, ordinary gradients, any precision: the reference for the others."""

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse what this trainer does not do.

        Raises:
            RequestError: names the key and the cure.
        """
        _refuse_privacy(config)
        _refuse_processes(config)

    def __init__(self, parts: Parts, data: ImageData, recorder: Recorder, run_dir: Path) -> None:
        """The arguments are those of ``runner.training.loop.Loop``."""
        from runner.training.loop import Loop

        self._loop = Loop(parts, data, recorder, run_dir)

    def fit(self, checkpoint: Checkpoint | None, stop: StopRequest) -> FitResult:
        """Train from the start, or from ``checkpoint``, to the end of the plan or until ``stop`` is pending."""
        if checkpoint is not None:
            self._loop.resume(checkpoint)
        return self._loop.fit(stop)


class MixedPrecisionTrainer(StandardTrainer):
    """The 16-bit type that suits the device; float32 is allowed as the baseline of a grid."""


class AccelerateTrainer(StandardTrainer):
    """One process or several, joined by Accelerate; any precision."""

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse privacy, which has a trainer of its own for any number of processes."""
        _refuse_privacy(config)


class DPTrainer(StandardTrainer):
    """Differentially private SGD on one process or several; any precision."""

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse whatever would make the reported epsilon wrong or meaningless."""
        if not config.privacy.enabled:
            raise RequestError(
                "privacy", "none with trainer=dp", "privacy=dp, or trainer=standard for a run that is not private"
            )
        if config.trainer.clip_norm is not None:
            raise RequestError(
                "trainer.clip_norm",
                config.trainer.clip_norm,
                "null with trainer=dp, which clips each example: set privacy.max_grad_norm",
            )
        if config.privacy.validation == "private":
            _refuse_steering(config)
        if config.model.norm == "batch":
            raise RequestError(
                "model.norm",
                "batch",
                "group or auto with trainer=dp, because BatchNorm mixes the examples of a batch",
            )


def _refuse_steering(config: RunConfig) -> None:
    steered = (
        "because choosing by validation data is not covered by the reported epsilon"
        " (privacy.validation=public declares them public)"
    )
    if config.trainer.patience is not None:
        raise RequestError("trainer.patience", config.trainer.patience, f"null with trainer=dp, {steered}")
    if config.trainer.test_checkpoint != "last":
        raise RequestError(
            "trainer.test_checkpoint", config.trainer.test_checkpoint, f"last with trainer=dp, {steered}"
        )
    if config.scheduler.name == "plateau":
        raise RequestError("scheduler", "plateau", f"another schedule with trainer=dp, {steered}")


def _refuse_privacy(config: RunConfig) -> None:
    if config.privacy.enabled:
        raise RequestError(
            "privacy", f"dp with trainer={config.trainer.name}", "trainer=dp, the one trainer that adds the noise"
        )


def _refuse_processes(config: RunConfig) -> None:
    if config.hardware.processes != 1:
        asked = "null (one for each GPU)" if config.hardware.processes is None else config.hardware.processes
        raise RequestError(
            "hardware.processes",
            f"{asked} with trainer={config.trainer.name}",
            "trainer=accelerate or trainer=dp, which run on several, or hardware.processes=1",
        )
