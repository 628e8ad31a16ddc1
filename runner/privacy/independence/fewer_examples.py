"""A check on as many examples as the memory has room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from runner.error_texts import is_out_of_memory

T = TypeVar("T")


def on_fewer_where_memory_ends(check: Callable[[int], T], size: int) -> T:
    """What ``check`` gives for ``size`` examples, or for half as many as often as memory runs out; for two at least."""
    while True:
        try:
            return check(size)
        except (MemoryError, RuntimeError) as error:
            if size < 4 or not is_out_of_memory(error):
                raise
            size //= 2
