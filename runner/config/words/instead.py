"""What is typed here for a word of another tool."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple


class Instead(NamedTuple):
    """What is typed in place of a word."""

    lines: tuple[str, ...]
    """Alternatives, each as it is typed in a shell; none where there is nothing to set."""
    note: str = ""
    """What has to be known besides, or why there is nothing to set."""

    def __str__(self) -> str:
        if not self.lines:
            return f"nothing: {self.note}"
        return " or ".join(self.lines) + (f" ({self.note})" if self.note else "")


def one_line(found: Sequence[tuple[str, str | None, Instead]]) -> str:
    """What is typed for several words at once, each given with its value: one line for a shell, and the notes.

    Of alternatives the first is taken.  Where two of them set one key, the value that was given counts.
    """
    typed: dict[str, str] = {}
    notes: dict[str, list[str]] = {}
    for word, value, instead in found:
        for line in instead.lines[:1]:
            for part in shlex.split(line):
                key = part.partition("=")[0]
                if key not in typed or (value is not None and part.endswith(f"={value}")):
                    typed[key] = part
        if instead.note:
            notes.setdefault(instead.note, []).append(word)
    line = shlex.join(typed.values()) or "nothing"
    told = "; ".join(f"{', '.join(words)}: {note}" for note, words in notes.items())
    return f"{line} ({told})" if told else line
