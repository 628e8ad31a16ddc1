"""Publishing the best of a random number of runs (Papernot and Steinke 2022, theorem 2).

Choosing the best of many private runs tells more than one of them does.  How much more is bounded well below their
composition ("Hyperparameter Tuning with Renyi Differential Privacy", ICLR 2022) when

- the number K of runs is drawn beforehand from a truncated negative binomial distribution, independently of the data,
  and neither looked at nor published;
- each run draws its settings independently from the same fixed distribution, with noise of its own;
- every run is the same mechanism, as far as its privacy goes;
- all K are run, and the best of them is all that is published.

The score by which the best is chosen is computed from a run's output.  Where that takes other people's data, such as a
validation split, these data are not covered.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from runner.privacy.accounting import accountants
from runner.privacy.accounting.composition import Spent


@dataclass(frozen=True, kw_only=True)
class TrialCount:
    """The distribution of K >= 1, by its mean and its shape (definition 1 of the paper, whose eta the shape is)."""

    mean: float
    """At least 1."""
    shape: float
    """0 for the logarithmic distribution, 1 for the geometric one; larger is closer to the mean."""

    @property
    def stopping(self) -> float:
        """The paper's gamma, in (0, 1]: with shape 1, the probability to stop after each trial."""
        if self.mean == 1.0:
            return 1.0
        low, high = math.log(1e-18), 0.0
        while high - low > 1e-15 * -low:
            middle = (low + high) / 2
            low, high = (middle, high) if self._mean_at(middle) > self.mean else (low, middle)
        return math.exp(low)

    def probabilities(self, most: int) -> list[float]:
        """Of K = 1, ..., ``most``."""
        gamma, shape = self.stopping, self.shape
        if gamma == 1.0:
            return [1.0] + [0.0] * (most - 1)
        first = 1.0 / -math.log(gamma) if shape == 0.0 else shape / math.expm1(-shape * math.log(gamma))
        found = [first * (1.0 - gamma)]
        while len(found) < most:
            k = len(found)
            found.append(found[-1] * (1.0 - gamma) * (k + shape) / (k + 1))
        return found

    def draw(self, source: random.Random) -> int:
        """One K."""
        left, most = source.random(), 1024
        while True:
            probabilities = self.probabilities(most)
            rest = left
            for k, probability in enumerate(probabilities, start=1):
                rest -= probability
                if rest < 0.0:
                    return k
            if probabilities[-1] < 1e-15:
                return most
            most *= 4

    def _mean_at(self, log_gamma: float) -> float:
        odds = math.expm1(-log_gamma)
        return odds / -log_gamma if self.shape == 0.0 else self.shape * odds / -math.expm1(self.shape * log_gamma)


def epsilon_of_best(run: Spent, trials: TrialCount, *, delta: float) -> float:
    """An upper bound on epsilon at ``delta`` of publishing the best of K runs like ``run``, K drawn from ``trials``.

    By Renyi divergences, the only ones for which the theorem is known; infinite without noise, 0 without steps.
    """
    if run.steps == 0:
        return 0.0
    if run.noise_multiplier == 0.0:
        return math.inf
    return accountants.epsilon_of_selection(
        run.sample_rate, run.noise_multiplier, run.steps, mean=trials.mean, shape=trials.shape, delta=delta
    )
