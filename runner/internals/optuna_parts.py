"""What the runner takes from Optuna and from Hydra's plug-in for it beside their public interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler


def distributions_of(argument: str) -> dict[str, BaseDistribution]:
    """Key -> what to draw its values from, as Hydra's plug-in reads an override; empty for a fixed value.

    Raises:
        ValueError, AssertionError: nothing can be drawn from it.
    """
    found, _, _ = create_params_from_overrides([argument])
    return found


def values_of(distribution: BaseDistribution) -> Sequence[Any]:
    """All values of a distribution.

    Raises:
        ValueError: there are endlessly many.
    """
    return OptunaSweeperImpl._to_grid_sampler_choices(distribution)


def sampler_beside(sampler: QMCSampler) -> BaseSampler:
    """The sampler that draws what a quasi-random sequence cannot."""
    return sampler._independent_sampler
