"""``folds=5``: a run, or each cell of a grid, once for every fold of the data."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from runner.config.compose import Composer
from runner.config.rules import rules
from runner.errors import RequestError

KEY = "folds"
FOLD, COUNT = "data.fold", "data.folds"


def with_folds(composer: Composer, folds: int, overrides: Sequence[Override]) -> list[Override]:
    """``overrides`` with every one of so many folds in the place of ``folds``, which cells know nothing of.

    Raises:
        RequestError: there are no folds of that number, or the typed overrides say which test part there is.
    """
    rules.RULES[COUNT].check(KEY, folds)
    for override in overrides:
        key = override.key_or_group
        if key in (FOLD, COUNT, "data.test_fraction"):
            typed = f"{key}={override.get_value_element_as_str()}"
            raise RequestError(KEY, f"{folds} beside {typed}", f"one of the two: {KEY} says which parts are tested")
    every = ",".join(map(str, range(folds)))
    return [
        *(override for override in overrides if override.key_or_group != KEY),
        *composer.parse([f"{COUNT}={folds}", f"{FOLD}={every}"]),
    ]
