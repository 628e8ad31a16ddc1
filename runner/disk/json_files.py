"""Reading JSON that somebody else may have written: what is no plain, finite value of a sane size is refused."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any, NoReturn

LARGEST_BYTES = 2**26
"""Of a file that is read whole: a record takes kilobytes, the names of a million images 64 MB."""

LARGEST_NUMBER = 2**64
"""Of a whole number; more would overflow whatever computes with it."""


def read_json(path: Path) -> Any:
    """What ``path`` holds.

    Raises:
        ValueError: it is no ordinary file, too large, or not what ``parse_json`` takes.
        OSError: it cannot be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not an ordinary file")
    if found.st_size > LARGEST_BYTES:
        raise ValueError(f"{found.st_size:,} bytes, more than {LARGEST_BYTES:,}")
    return parse_json(path.read_bytes())


def parse_json(content: bytes) -> Any:
    """The value that ``content`` says.

    Raises:
        ValueError: it is not JSON, or has NaN, an infinite or enormous number, or brackets without end in it.
    """
    try:
        return _DECODER.decode(content.decode())
    except RecursionError:
        raise ValueError("brackets within brackets without end") from None


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > LARGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]}, which is no finite number")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no number in JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_refuse)
