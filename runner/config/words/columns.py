"""Text in two columns, for the pages that ``--help`` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

WIDTH = 80


def two_columns(left: str, right: str, *, column: int) -> Iterator[str]:
    """The lines of ``left``, indented, and of ``right`` beside it from ``column`` on, at most ``WIDTH`` wide."""
    first = f"  {left:<{column - 4}}  " if len(left) <= column - 4 else f"  {left}\n{' ' * column}"
    lines = textwrap.wrap(right, width=WIDTH - column, break_on_hyphens=False)
    yield first + lines[0]
    yield from (" " * column + line for line in lines[1:])
