"""The random numbers of a step: augmentation, and layers such as dropout."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from runner.config.schema import AugmentConfig
from runner.data import augment
from runner.training.gradients.batch_sampler import fold_in
from runner.training.gradients.stochastic_models import is_stochastic


class StepRng(Protocol):
    """Where a step's random numbers come from: a pure function of run and step, so that a step repeats itself."""

    def begin(self, step: int, rank: int) -> None:
        """Prepare the model's random layers for this process's share of logical batch ``step``."""
        ...

    def images(self, step: int, rows: Tensor, *, rank: int, size: int) -> Tensor:
        """The uniform numbers that augment every ``size``-th example of a logical batch, from number ``rank`` on.

        Args:
            step: the update.
            rows: int64 [m] positions in the training set: the whole logical batch.
            rank: of the process.
            size: number of processes.

        Returns:
            float32 [ceil((m - rank) / size), copies, columns] on the CPU, as ``runner.data.augment.apply`` takes them.
        """
        ...

    def layers(self, step: int, rows: Tensor) -> None:
        """Prepare the model's random layers for the micro-batch of the examples at ``rows``, int64 [b]."""
        ...


class SeededRng:
    """Draws from the run's public seed: by an example's position in the logical batch, layers once a step and process.

    Never under DP: whoever knows the seed knows these draws, and one example more moves those of all later ones.
    """

    def __init__(self, config: AugmentConfig, model: nn.Module, *, seed: int) -> None:
        """Of a run with ``seed`` that trains ``model``."""
        self._config = config
        self._seed = seed
        self._device = next(model.parameters()).device
        self._is_stochastic = is_stochastic(model)

    def begin(self, step: int, rank: int) -> None:
        """See ``StepRng``."""
        if self._is_stochastic:
            seed_layers(fold_in(self._seed, step, rank), self._device)

    def images(self, step: int, rows: Tensor, *, rank: int, size: int) -> Tensor:
        """See ``StepRng``; the draws of the example at position i follow from (seed, step, i)."""
        draws = augment.draw(self._config, self._seed, step, rows.numel())
        assert draws is not None
        return draws.unsqueeze(1)[rank::size]

    def layers(self, step: int, rows: Tensor) -> None:
        """Nothing: they draw on from where ``begin`` put them."""


def seed_layers(seed: int, device: torch.device) -> None:
    """Make dropout and its kin a function of the step.  ``torch.manual_seed`` does the same and takes 95 us, not 1."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
