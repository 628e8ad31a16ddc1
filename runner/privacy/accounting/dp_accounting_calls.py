"""What the accountants ask of dp-accounting: losses and Renyi divergences of one update."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from absl import logging as absl_logging
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import rdp_privacy_accountant as rdp

from runner.privacy.accounting.tilted_losses import epsilon_of_sum

__all__ = [
    "epsilon_of_divergences",
    "epsilon_of_sum",
    "loss_distribution",
    "renyi_accountant",
    "renyi_divergences",
    "reset_absl_stream",
    "selection_event",
]


@functools.lru_cache(maxsize=2)
def loss_distribution(sample_rate: float, noise_multiplier: float, grid: float, cut: float) -> Any:
    """The privacy loss distribution of one update, rounded up."""
    reset_absl_stream()
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=sample_rate,
        value_discretization_interval=grid,
        pessimistic_estimate=True,
        log_mass_truncation_bound=cut,
    )


@functools.lru_cache(maxsize=4)
def renyi_divergences(sample_rate: float, noise_multiplier: float, orders: tuple[int, ...] | None) -> tuple[Any, Any]:
    """Renyi orders (those given, else the library's) and the divergence of one update at each."""
    step = dp_event.PoissonSampledDpEvent(sample_rate, dp_event.GaussianDpEvent(noise_multiplier))
    accountant = renyi_accountant(step, orders)
    return accountant.orders, accountant.rdp


def selection_event(
    sample_rate: float, noise_multiplier: float, steps: int, *, mean: float, shape: float
) -> dp_event.DpEvent:
    """The best of a random number of runs of ``steps`` updates, from a negative binomial distribution."""
    step = dp_event.PoissonSampledDpEvent(sample_rate, dp_event.GaussianDpEvent(noise_multiplier))
    return dp_event.RepeatAndSelectDpEvent(dp_event.SelfComposedDpEvent(step, steps), mean, shape)


def renyi_accountant(event: Any, orders: tuple[int, ...] | None) -> Any:
    """dp-accounting's accountant of Renyi divergences, of one ``event``."""
    reset_absl_stream()
    with _quiet_absl():
        accountant = rdp.RdpAccountant(orders)
        accountant.compose(event)
    return accountant


def epsilon_of_divergences(orders: Any, divergences: Any, delta: float) -> float:
    """Epsilon at ``delta`` of the ``divergences`` at Renyi ``orders``."""
    return float(rdp.compute_epsilon(orders, divergences, delta)[0])


def reset_absl_stream() -> None:
    """Takes from absl the stream that it found at import: it closes that stream when logging is configured anew."""
    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@contextmanager
def _quiet_absl() -> Iterator[None]:
    """Keeps dp-accounting's notes about Renyi orders that it leaves out, which loosen the bound and never break it."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
