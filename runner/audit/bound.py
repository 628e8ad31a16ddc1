"""Lower bounds on epsilon from an attacker's scores.

Source: Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, arXiv 2305.08846.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

_TOLERANCE = 1e-6
_MOST = 50.0


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """How well the attacker told present canaries from absent ones."""

    canaries: int
    made: int
    right: int


def guess(scores: NDArray[np.float64], present: NDArray[np.bool_], *, guesses: int) -> Guesses:
    """Call the ``guesses / 2`` highest scores present and as many of the lowest absent; abstain for the rest.

    This is algorithm 1 of the paper with k+ = k- fixed before anything has been seen.  Ties are broken by position,
    which tells nothing about the coins.

    Args:
        scores: One per canary, ``[m]``; higher where the canary is more likely present.
        present: The coins, ``[m]``.
        guesses: An even number in [2, m].
    """
    half = guesses // 2
    order = np.argsort(scores, kind="stable")
    right = int((~present[order[:half]]).sum() + present[order[-half:]].sum())
    return Guesses(canaries=len(scores), made=2 * half, right=right)


def p_value(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """A bound on the probability of at least as many right guesses against an (epsilon, delta)-private trainer.

    Theorem 5.2 of the paper, in the form of its appendix D.  With W ~ Binomial(guesses made, e^eps / (1 + e^eps)), the
    right guesses of an attacker on randomized response, and v of them right, it is

        P[W >= v] + 2 m delta max_{1 <= i <= v} P[v > W >= v - i] / i.
    """
    made, right = guesses.made, guesses.right
    accuracy = expit(epsilon)
    tail = float(binom.sf(right - 1, made, accuracy))
    if delta == 0.0 or right == 0:
        return min(tail, 1.0)
    steps = np.arange(1, right + 1)
    # summed up from the small end: the difference of two tails near 1 would lose what matters
    between = np.cumsum(binom.pmf(right - steps, made, accuracy))
    return float(min(1.0, tail + 2 * guesses.canaries * delta * np.max(between / steps)))


def epsilon_lower_bound(guesses: Guesses, *, delta: float, confidence: float) -> float:
    """The largest epsilon that the guesses refute at ``confidence``, to 1e-6 from below; 0.0 when they refute none.

    For any (epsilon, delta)-private trainer it exceeds epsilon with probability at most 1 - ``confidence`` over the
    coins and the trainer's randomness.
    """
    significance = 1.0 - confidence

    def refuted(epsilon: float) -> bool:
        return p_value(guesses, epsilon=epsilon, delta=delta) <= significance

    low, high = 0.0, _MOST
    if not refuted(low):
        return 0.0
    # The p-value rises with epsilon where it is small, so refuted values form an interval from 0.
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def largest_bound(canaries: int, guesses: int, *, delta: float, confidence: float) -> float:
    """What ``epsilon_lower_bound`` says when every guess is right: nothing above it can be measured."""
    return epsilon_lower_bound(
        Guesses(canaries=canaries, made=guesses, right=guesses), delta=delta, confidence=confidence
    )
