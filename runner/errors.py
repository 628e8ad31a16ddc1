"""What can go wrong: exit codes, a wrong request as one line, a run that failed on its way."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any


class ExitCode(IntEnum):
    """What the program answers to its caller."""

    DONE = 0
    FAILED = 1
    """A run failed on the way."""
    WRONG_REQUEST = 2
    """The request cannot be run as typed; nothing was started."""
    INTERRUPTED = 75
    """Stopped by a signal; the same command goes on, or begins again (EX_TEMPFAIL of sysexits.h)."""


class RequestError(ValueError):
    """A request that cannot be run as typed.  Ends the program with exit code 2 and the one line of ``str(self)``."""

    def __init__(
        self, key: str, got: object, expected: str, *, nearest: str | None = None, cell: str | None = None
    ) -> None:
        """``key`` is the dotted key at fault, ``nearest`` the valid name that the user probably meant.

        ``cell`` names the cell of a sweep whose request is wrong.
        """
        self.key = key
        self.got = got
        self.expected = expected
        self.nearest = nearest
        self.cell = cell
        super().__init__(key, got, expected, nearest, cell)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.key, self.got, self.expected, self.nearest, self.cell)

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        place = f" (in {self.cell})" if self.cell else ""
        line = f"{self.key}: got {as_typed(self.got)}, expected {self.expected}{hint}{place}"
        return " ".join(line.split())


def read_refusal(line: str, place: str) -> RequestError:
    """The refusal that was written as ``line``, said of ``place``, such as a trial."""
    found = re.fullmatch(r"(\S+): got (.*?), expected (.*)", line, flags=re.DOTALL)
    if found is None:
        return RequestError("the request", "a refusal", line, cell=place)
    return RequestError(*found.groups(), cell=place)


def _restore(key: str, got: object, expected: str, nearest: str | None, cell: str | None) -> RequestError:
    return RequestError(key, got, expected, nearest=nearest, cell=cell)


class RunError(RuntimeError):
    """A run that was right to start and failed on the way.  Ends the program with exit code 1 and one line."""

    def __init__(self, *args: object, folder: Path | None = None) -> None:
        """``folder`` is that of the run or sweep, where the one who asked for it does not know it."""
        super().__init__(*args)
        self.folder = folder


class EpsilonVoid(RunError):
    """A private run in which something was found that its epsilon rules out; what it has released is not covered."""


class TooFewExamples(RunError):
    """BatchNorm has no statistics of a single value a channel."""


def as_typed(value: object) -> str:
    """``value`` as it would be typed on the command line: ``null``, ``true``, ``[1,2]``, and ``nothing`` for ''."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(as_typed(item) for item in value)}]"
    return str(value) or "nothing"


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The name among ``names`` most like ``name``, or None when none is alike by ``cutoff``, from 0 to 1."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return found[0] if found else None


def plainly(value: object) -> str:
    """``value`` as it would be typed, a whole number without its fraction."""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e6 else as_typed(value)
