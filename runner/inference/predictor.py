"""A finished run as a function from images to classes: ``from runner import load_run``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from runner.config.schema import DeviceKind, HardwareConfig
from runner.config.words.expand_user import expand_user
from runner.data.decoding.pixels import reading_of
from runner.inference.finished_run import FinishedRun, Privacy, open_run
from runner.inference.in_place_activations import activate_in_place
from runner.inference.preprocessing import Normalise, to_pixels
from runner.models.memory_format import format_for
from runner.planning.device import detect_device
from runner.training.distributed.world import torch_device
from runner.training.eval_chunks import chunked_logits
from runner.training.precision.precision import build_precision

if TYPE_CHECKING:
    from os import PathLike


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of n images."""

    classes: tuple[str, ...]
    """Name of the most probable class of each image."""
    labels: Tensor
    """Its number, int64 [n]."""
    probabilities: Tensor
    """Of every class, float32 [n, K], on the CPU."""
    privacy: Privacy | None
    """The guarantee of the model that predicted; None without differential privacy."""


class Predictor:
    """A trained model with its preprocessing.

    >>> model = load_run("outputs/2026-11-23/10-00-00")
    >>> model(["cat.jpg", "dog.jpg"]).classes
    ('cat', 'dog')
    """

    def __init__(self, run: FinishedRun, device: DeviceKind = "auto") -> None:
        """``device`` is ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            RequestError: the device is not here, or the weights are not those of the run's model.
        """
        plan = run.plan
        self.name = plan.name
        self.classes = plan.classes
        """Name of each class: a label is an index into it."""
        self.image_size = plan.semantic.data.image_size
        self.channels = plan.semantic.data.channels
        self.privacy = run.privacy
        self._reading = reading_of(run.config.data, channels=self.channels)
        self._shortest = run.shortest
        self._interpolation = plan.semantic.data.interpolation
        self.device = torch_device(detect_device(HardwareConfig(device=device)).kind)
        self._precision = build_precision(plan.semantic.precision, self.device, private=False)
        dtype = self._precision.parameter_dtype
        self._batch_size = plan.performance.eval_batch_size
        model = activate_in_place(run.build_model(dtype)).to(self.device)
        self._memory_format = format_for(model, channels_last=plan.performance.channels_last)
        self._model = model.to(memory_format=self._memory_format)
        data = plan.semantic.data
        self._normalise = Normalise(data.mean, data.std, dtype).to(self.device)

    def __call__(self, images: Any) -> Predictions:
        """Predict one image or several: paths, PIL images, uint8 arrays or tensors (see ``preprocessing.to_pixels``).

        Raises:
            RequestError: an image cannot be read, or is of another kind.
        """
        pixels = to_pixels(
            images,
            size=self.image_size,
            channels=self.channels,
            reading=self._reading,
            shortest=self._shortest,
            interpolation=self._interpolation,
        )
        probabilities = self.probabilities(pixels)
        labels = probabilities.argmax(1)
        return Predictions(
            classes=tuple(self.classes[label] for label in labels.tolist()),
            labels=labels,
            probabilities=probabilities,
            privacy=self.privacy,
        )

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Of every class, float32 [n, K] on the CPU, for uint8 ``pixels`` [n, size, size, channels]."""
        parts = []
        with torch.inference_mode():
            for part in pixels.split(self._batch_size):
                images = self._normalise(part.to(self.device)).contiguous(memory_format=self._memory_format)
                parts.append(chunked_logits(self._model, images, self._precision).softmax(1).float().cpu())
        return torch.cat(parts)


def load_run(folder: str | PathLike[str], *, checkpoint: str = "best", device: DeviceKind = "auto") -> Predictor:
    """The model of the run in ``folder``, ready to predict.

    Args:
        folder: What ``hydra.run.dir`` was; ``~`` is the home.
        checkpoint: ``best``, ``last``, or a folder's name in ``checkpoints/``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        RequestError: there is no such run, checkpoint or device.
    """
    return Predictor(open_run(Path(expand_user(os.fspath(folder))), checkpoint), device)
