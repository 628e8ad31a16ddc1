"""Successive halving over the epochs of a grid (``hydra.sweeper.halving``): its rungs, and what it asks of a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.request.until_decided import SPLITS
from runner.config.schema import RunConfig
from runner.config.words.override_lines import key_of
from runner.errors import RequestError, as_typed, plainly

KEY = "hydra.sweeper.halving"

_ALIKE = ("trainer.epochs", "trainer.eval_every", "trainer.monitor")
_FEWEST_LEFT = 2
"""Recipes that are trained to the end: one alone is compared with nothing."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Where the cells of a grid are compared."""

    epoch: int
    """After how many epochs."""
    keep: int
    """Recipes that go on."""


def check_halving(value: object, configs: Sequence[RunConfig], cells_lines: Sequence[Sequence[str]]) -> bool:
    """Whether ``value`` of the key asks for it of a grid of these cells.

    Raises:
        RequestError: it is no switch, or the grid has no rungs, or a choice by them has no account.
    """
    if not isinstance(value, bool):
        raise RequestError(KEY, value, "true or false")
    if not value:
        return False
    if any(config.privacy.enabled for config in configs):
        expected = "false: a cell that is stopped by its validation figures is chosen by them, which no epsilon covers"
        raise RequestError(KEY, "true with private cells", expected)
    if configs[0].comparison.until is not None:
        got = f"true with comparison.until={configs[0].comparison.until}"
        raise RequestError(KEY, got, "one of the two: comparison.until=null, or false")
    if any(config.trainer.steps is not None for config in configs):
        raise RequestError("trainer.steps", f"a number with {KEY}=true", "null, and trainer.epochs: rungs are epochs")
    for key in _ALIKE:
        found = dict.fromkeys(getattr(config.trainer, key.partition(".")[2]) for config in configs)
        if len(found) > 1:
            got = f"{', '.join(map(as_typed, found))} with {KEY}=true"
            raise RequestError(key, got, "one value: figures of one epoch are compared")
    plan_rungs(configs[0], len(recipes_of(cells_lines)))
    return True


def recipes_of(cells_lines: Sequence[Sequence[str]]) -> list[list[int]]:
    """The numbers of the cells of each recipe: those that differ in nothing but what repeats them."""
    found: dict[tuple[str, ...], list[int]] = {}
    for number, lines in enumerate(cells_lines):
        found.setdefault(tuple(line for line in lines if key_of(line) not in ("seed", *SPLITS)), []).append(number)
    return list(found.values())


def plan_rungs(config: RunConfig, recipes: int) -> tuple[Rung, ...]:
    """The rungs: after T/2, T/4, ... of T epochs, the earliest first, the better half goes on, and two to the end.

    That is successive halving (Jamieson and Talwalkar 2016, algorithm 1) with a factor of 2 and T epochs for the last.
    There are fewer rungs where they would come before the first evaluation.

    Raises:
        RequestError: there is none.
    """
    epochs, every = config.trainer.epochs, config.trainer.eval_every
    assert epochs is not None
    halvings, left = 0, recipes
    while left > _FEWEST_LEFT:
        halvings, left = halvings + 1, math.ceil(left / 2)
    if not halvings:
        raise RequestError(KEY, f"true with {recipes} recipes", f"more than {_FEWEST_LEFT}, or false: all would stay")
    possible = math.floor(math.log2(epochs / every)) if epochs >= every else 0
    if possible < 1:
        got = f"{plainly(epochs)} with {KEY}=true"
        raise RequestError("trainer.epochs", got, f"at least {2 * every}, so that there is a rung before the end")
    rungs, left = [], recipes
    for number in range(min(halvings, possible), 0, -1):
        left = math.ceil(left / 2)
        rungs.append(Rung(epoch=math.floor(epochs / 2**number / every) * every, keep=left))
    return tuple(rungs)
