"""The planned looks at a sweep that adds seeds until it is decided."""

from __future__ import annotations

FIRST_LOOK = 5
"""Seeds a recipe at the first look; with fewer a t interval is several times as wide."""


def plan_looks(max_seeds: int) -> tuple[int, ...]:
    """Seeds a recipe at each look: 5, 10, 20, 40 and so on, the last one at ``max_seeds``.

    Doubling keeps the looks few, so that dividing the level by their number (Bonferroni) costs little: at 5, 10, 20 and
    40 the intervals are 1.3 times as wide as those of a single look.
    """
    looks = []
    seeds = FIRST_LOOK
    while seeds < max_seeds:
        looks.append(seeds)
        seeds *= 2
    return (*looks, max_seeds)
