"""What a user is told when a request is wrong: one line with the key, what was given and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A request that cannot be run as typed.  Ends the program with exit code 2 and the one line of ``str(self)``."""

    def __init__(self, key: str, got: object, expected: str, *, nearest: str | None = None) -> None:
        """``key`` is the dotted key at fault, ``nearest`` the valid name that the user probably meant."""
        self.key = key
        self.got = got
        self.expected = expected
        self.nearest = nearest
        super().__init__(key, got, expected, nearest)

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        line = f"{self.key}: got {self.got}, expected {self.expected}{hint}"
        return " ".join(line.split())


class RunError(RuntimeError):
    """A run that was right to start and failed on the way.  Ends the program with exit code 1 and one line."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name among ``names`` most like ``name``, or None when none is alike."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None
