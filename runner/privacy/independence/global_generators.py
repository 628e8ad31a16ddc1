"""The global random generators of a process, from which no forward pass may draw under DP.

What they give an example depends on how many were drawn before, hence on who else is in the batch.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn

from runner.privacy.independence.batch_mixing import Batch, watched


class GeneratorStates:
    """Where the shared generators stand at one moment."""

    def __init__(self, device: torch.device) -> None:
        """``device`` is the model's."""
        self._device = device
        self._then = self._now()

    def changed(self) -> str | None:
        """Whose generator has been drawn from since; None when none was."""
        now = self._now()
        return next((whose for whose, state in self._then.items() if state != now[whose]), None)

    def _now(self) -> dict[str, Any]:
        kind, words, *rest = np.random.get_state()
        states: dict[str, Any] = {
            "torch": torch.default_generator.get_state().numpy().tobytes(),
            "numpy": (kind, np.asarray(words).tobytes(), *rest),
            "Python": random.getstate(),
        }
        if self._device.type == "cuda":
            generator = torch.cuda.default_generators[self._device.index or 0]
            states["torch"] += generator.get_state().numpy().tobytes()
        return states


def drawing_layer(model: nn.Module, batch: Batch) -> str:
    """The first module of ``model`` to finish that has drawn from a shared generator."""
    device = batch.images.device
    found: list[str] = []
    entered: list[GeneratorStates] = []

    def after(name: str, output: Any) -> None:
        if entered.pop().changed() is not None:
            found.append(name)

    def before(module: nn.Module, inputs: Any) -> None:
        entered.append(GeneratorStates(device))

    with torch.no_grad(), batch.drawn_in(model), watched(model, before, after):
        model(batch.images)
    return found[0] if found else type(model).__name__
