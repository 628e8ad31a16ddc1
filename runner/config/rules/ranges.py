"""The range of a single value: numbers between limits, or one of a few words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from runner.errors import RequestError, nearest


@dataclass(frozen=True)
class Range:
    """Numbers between ``low`` and ``high``; an open end does not belong to it.  Of a list, every item."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def check(self, key: str, value: Any) -> None:
        """Raises ``RequestError`` when ``value``, or one of its items, lies outside."""
        for item in value if isinstance(value, list) else [value]:
            inside = isinstance(item, int | float) and self.low <= item <= self.high
            if not inside or (item == self.low and self.open_low) or (item == self.high and self.open_high):
                raise RequestError(key, value, str(self))

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number {'>' if self.open_low else '>='} {self.low:.10g}"
        return f"a number in {'(['[not self.open_low]}{self.low:.10g}, {self.high:.10g}{')]'[not self.open_high]}"


@dataclass(frozen=True)
class WholeNumberOr:
    """A whole number, at least 1, or one word."""

    word: str

    def check(self, key: str, value: Any) -> None:
        """Raises ``RequestError`` when ``value`` is neither."""
        if value == self.word:
            return
        if not isinstance(value, int):
            near = nearest(str(value), [self.word])
            raise RequestError(key, value, f"a whole number, or {self.word}", nearest=near)
        if value < 1:
            raise RequestError(key, value, f"a number >= 1, or {self.word}")


@dataclass(frozen=True)
class NumbersOr:
    """A list of positive numbers, or one word."""

    word: str

    def check(self, key: str, value: Any) -> None:
        """Raises ``RequestError`` when ``value`` is neither."""
        if value == self.word:
            return
        numbers = isinstance(value, list) and value
        if not numbers or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            near = nearest(str(value), [self.word])
            raise RequestError(key, value, f"{self.kind}, or null", nearest=near)
        POSITIVE.check(key, value)

    @property
    def kind(self) -> str:
        """In words."""
        return f"{self.word}, or a list of numbers > 0"


@dataclass(frozen=True)
class Bytes:
    """A number of bytes, with or without a unit."""

    def check(self, key: str, value: Any) -> None:
        """Raises ``RequestError`` when ``value`` is none, or less than a MiB, in which nothing runs."""
        if read_bytes(value) < 2**20:
            raise RequestError(key, value, "a number of bytes, at least 1MiB, such as 4GiB, 512MB or 8589934592")


def read_bytes(text: str) -> int:
    """The number that ``text`` stands for: ``4GiB``, ``1.5 GB``, ``512MB``, ``1073741824``; 0 for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, flags=re.IGNORECASE)
    if found is None:
        return 0
    power = " KMGT".index(found[2].upper() or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


POSITIVE = Range(0, open_low=True)
AT_LEAST_0 = Range(0)
AT_LEAST_1 = Range(1)
SHARE = Range(0, 1)
SHARE_BELOW_1 = Range(0, 1, open_high=True)
INSIDE_0_1 = Range(0, 1, open_low=True, open_high=True)
SHARE_ABOVE_0 = Range(0, 1, open_low=True)
SEED = Range(0, 2**32 - 1)
BATCH_SIZE = WholeNumberOr("auto")
MEMORY = Bytes()
