"""The planned looks at a sweep that adds seeds until it is decided."""

from __future__ import annotations

import math

FIRST_LOOK = 5
"""Seeds a recipe at the first look; with fewer a t interval is several times as wide."""


_FURTHER = 0.8
"""Share of its level that a further look adds to the probability of a false claim: what is claimed falsely at a look
was, with probability 1/5 at least on average, claimed at the one before it, of 0.7 times as many seeds (Student's t,
levels down to 0.001; ``tests/report/test_decision.py``)."""
_LAST = 3.0
"""What the last look has of the level where each other has one.  With 1 a sweep that is hard to decide takes more runs
than a fixed design that answers as often, with 5 a clear one takes a tenth more than with 1."""


def plan_looks(max_seeds: int) -> tuple[int, ...]:
    """Seeds a recipe at each look: 5, 7, 10, 14, 20, 28, 40 and so on, the last one at ``max_seeds``.

    Twice as many seeds make two looks.  Looks at 5, 10, 20 and 40 alone leave a larger share of the level to each, but
    run on to twice the seeds where a few more would have done, and take more seeds in all.
    """
    halves = math.ceil(2 * math.log2(max(max_seeds / FIRST_LOOK, 1)))
    looks = {math.isqrt(FIRST_LOOK**2 << half) for half in range(halves)}
    return (*sorted(looks - {max_seeds}), max_seeds)


def level_shares(looks: int) -> tuple[float, ...]:
    """Shares of the level of a question that its claims may use at each of so many planned looks.

    The last look has ``_LAST`` times the share of the others, which are alike: it is the one that must answer, and a
    sweep that is clear ends at the first ones with a little less as well.

    A look sees again what the one before it saw.  With A_i the false claim at look i, of level a_i, P(A_1 or ... or
    A_L) <= sum of a_i - sum of P(A_i and A_i+1) (Hunter 1976, J. Appl. Probab. 13, 597; Worsley 1982, Biometrika 69,
    297).  What is claimed at the smaller of two levels is claimed at the larger, so that with a for all but the last
    P(A_i and A_i+1) >= a / 5, and the sum is at most a (1 + 4/5 (L - 2) + _LAST - 1/5).
    """
    if looks == 1:
        return (1.0,)
    share = 1 / (1 + _FURTHER * (looks - 2) + _LAST - (1 - _FURTHER))
    return (*(share,) * (looks - 1), _LAST * share)
