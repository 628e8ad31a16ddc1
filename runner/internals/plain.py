"""The switch: whether libraries are used by their public interfaces alone, wherever there is one."""

from __future__ import annotations

import os
from functools import cache

from runner.errors import RequestError

PLAIN_VARIABLE = "RECIPE_RUNNER_PLAIN_TORCH"
"""The environment variable: 1 takes the public way, 0 (and nothing) the measured one."""


@cache
def plain_torch() -> bool:
    """Whether ``RECIPE_RUNNER_PLAIN_TORCH=1`` was set when this was first asked.

    Both ways give the same bits.  The public one is slower by what ``docs/internals.md`` says, and is there to find
    out whether a new version of a library, or a fault, has to do with what stands in this package.

    Raises:
        RequestError: the variable is neither 1, 0 nor empty.
    """
    value = os.environ.get(PLAIN_VARIABLE, "")
    if value not in ("", "0", "1"):
        raise RequestError(PLAIN_VARIABLE, value, "1, for the public interfaces of libraries alone, or 0")
    return value == "1"
