"""The planned looks at a sweep that adds seeds until it is decided."""

from __future__ import annotations

import math

FIRST_LOOK = 5
"""Seeds a recipe at the first look; with fewer a t interval is several times as wide."""


_FURTHER = 0.8
"""Share of its level that a further look adds to the probability of a false claim: what is claimed falsely at a look
was, with probability 1/5 at least on average, claimed at the one before it, of 0.7 times as many seeds (Student's t,
levels down to 0.001; ``tests/report/test_decision.py``)."""


def plan_looks(max_seeds: int) -> tuple[int, ...]:
    """Seeds a recipe at each look: 5, 7, 10, 14, 20, 28, 40 and so on, the last one at ``max_seeds``.

    Twice as many seeds make two looks.  Looks at 5, 10, 20 and 40 alone leave a larger share of the level to each, but
    run on to twice the seeds where a few more would have done, and take more seeds in all.
    """
    halves = math.ceil(2 * math.log2(max(max_seeds / FIRST_LOOK, 1)))
    looks = {math.isqrt(FIRST_LOOK**2 << half) for half in range(halves)}
    return (*sorted(looks - {max_seeds}), max_seeds)


def count_looks(looks: int) -> float:
    """By what number the level of a question is divided to have that of each of so many planned looks.

    A look sees again what the one before it saw.  With A_i the false claim at look i, of level a each, P(A_1 or ... or
    A_L) <= L a - sum of P(A_i and A_i+1) (Hunter 1976, J. Appl. Probab. 13, 597; Worsley 1982, Biometrika 69, 297),
    which is at most a (1 + 4/5 (L - 1)).
    """
    return 1 + _FURTHER * (looks - 1)
