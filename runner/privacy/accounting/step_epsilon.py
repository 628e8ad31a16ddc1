"""The epsilon of one run after each of its updates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from runner.privacy.accounting import accountants
from runner.privacy.accounting.calibration import solve_steps


class Spending:
    """What a planned run has spent so far: cheap enough for a line per epoch, never more than the figure at its end.

    In between, ``pld`` and ``prv`` are read from a coarser grid, whose bound is looser and still a bound (about 15 ms
    for 1500 steps instead of 170).  ``rdp`` is exact at any step.
    """

    def __init__(
        self, accountant: str, *, sample_rate: float, noise_multiplier: float, delta: float, steps: int
    ) -> None:
        """The spending of a run of ``steps`` updates."""
        self.accountant = accountant
        self.sample_rate = sample_rate
        self.noise_multiplier = noise_multiplier
        self.delta = delta
        self.steps = steps
        self.final = self.reported_after(steps)
        """Epsilon of the whole run: ``epsilon(...)`` to the last bit."""
        self._known = {0: 0.0, steps: self.final}

    def epsilon_after(self, steps: int) -> float:
        """An upper bound on epsilon after ``steps`` updates, for progress lines; rises to ``final`` at the end."""
        if steps not in self._known:
            self._known[steps] = self._bound(steps)
        return self._known[steps]

    def reported_after(self, steps: int) -> float:
        """``epsilon(...)`` of this mechanism after ``steps`` updates: for the record of a run that ended early."""
        return accountants.epsilon(
            self.accountant,
            sample_rate=self.sample_rate,
            noise_multiplier=self.noise_multiplier,
            steps=steps,
            delta=self.delta,
        )

    def charged(self, steps: int, status: str) -> float:
        """What a run that ended as ``status`` after ``steps`` updates has spent (``runner.privacy.ledger.ledger``)."""
        return self.final if status == "pruned" else self.reported_after(steps)

    def steps_within(self, budget: float) -> int:
        """The largest number of updates whose reported epsilon does not pass ``budget``."""
        return solve_steps(
            self.accountant,
            epsilon=budget,
            delta=self.delta,
            sample_rate=self.sample_rate,
            noise_multiplier=self.noise_multiplier,
        )

    def _bound(self, steps: int) -> float:
        if steps > self.steps or math.isinf(self.final):
            return self.reported_after(steps)
        coarse = _coarse_bound(self.accountant, self.sample_rate, self.noise_multiplier, self.delta, self.steps, steps)
        # Fewer steps never cost more, so that the final figure bounds every earlier one.
        return min(coarse, self.final)


@functools.lru_cache(maxsize=4096)
def _coarse_bound(
    accountant: str, sample_rate: float, noise_multiplier: float, delta: float, planned: int, steps: int
) -> float:
    # runs of one process that differ in their seeds alone, and a run that goes on, ask for the same figures
    return _coarse_curve(accountant, sample_rate, noise_multiplier, delta, planned)(steps)


@functools.lru_cache(maxsize=1)
def _coarse_curve(
    accountant: str, sample_rate: float, noise_multiplier: float, delta: float, planned: int
) -> Callable[[int], float]:
    return accountants.curve(accountant, sample_rate, noise_multiplier, delta, planned, coarse=True)
