"""The strongest attacker of the claim: sees every released gradient and knows everything but one example's presence.

The noise of a step is normal with deviation sigma C around the clipped sum.  Whoever knows all other examples, their
batches and draws knows that sum without the example, and by what the example would move it, d.  What is left of a
release is r = sigma C z, or r = d + sigma C z where the example is present and was drawn, which has probability q.  So
a step adds to the log odds of presence

    log(1 - q + q exp((<r, d> - |d|^2 / 2) / (sigma C)^2)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_AHEAD = 1.0
"""How far beyond epsilon log odds are looked for: there they have probability delta / (1 - 1/e) at most."""


def log_odds(product: ArrayLike, square: ArrayLike, *, rate: float) -> NDArray[np.float64]:
    """What a step adds to the log odds that an example is present.

    Args:
        product: <r, d> in units of (sigma C)^2.
        square: |d|^2 in units of (sigma C)^2.
        rate: q.
    """
    exponent = np.asarray(product, dtype=np.float64) - np.asarray(square, dtype=np.float64) / 2
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(np.log1p(-rate), np.log(rate) + exponent))


def admitted(accountant_epsilon: float) -> float:
    """The log odds that a mechanism of ``accountant_epsilon`` at delta passes with probability 1.6 delta at most.

    With E the event that they exceed eps + a: P[E] <= e^eps P'[E] + delta, and P'[E] <= e^-(eps + a) P[E], so that
    P[E] <= delta / (1 - e^-a).
    """
    return accountant_epsilon + _AHEAD


def delta_for(probability: float) -> float:
    """The delta at which ``admitted`` is passed with ``probability`` at most."""
    return probability * -np.expm1(-_AHEAD)
