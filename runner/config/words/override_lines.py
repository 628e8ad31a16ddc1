"""Overrides as typed, before Hydra parses them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable


def key_of(line: str) -> str:
    """The key that ``line`` sets, without Hydra's signs around it."""
    return re.split("[=@]", line, maxsplit=1)[0].lstrip("+~")


def warn_repeated(lines: Iterable[str], *, swept: bool = False) -> None:
    """Say on standard error where a key is typed twice, of which the last counts, as scripts that append rely on.

    ``swept`` says whether several values of a key may be asked for in another way.
    """
    typed: dict[str, str] = {}
    for line in lines:
        key, value = key_of(line), line.partition("=")[2]
        if not value:
            continue
        if typed.get(key, value) != value:
            grid = swept and not key.startswith(("hydra", "resume"))
            several = f" ({key}={typed[key]},{value} with --multirun runs each)" if grid else ""
            print(f"note: {key} is given as {typed[key]} and then as {value}, which counts{several}", file=sys.stderr)
        typed[key] = value
