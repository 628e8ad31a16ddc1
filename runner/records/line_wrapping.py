"""Lines of text wrapped for a terminal: between words, and under the text that they go on with."""

from __future__ import annotations

import re
import unicodedata

_LABEL = re.compile(r" +\S+(?: \S+)* {2,}(?=\S)| +|\w+: ")
"""What stands before the text of a line: a name and the spaces that align what follows, or ``warning: ``."""
_NARROWEST = 20
"""Columns of text beside a label; where there are fewer, lines go on at the left."""


def wrapped(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of at most ``width`` columns; only a line of one word may be longer.

    Lines after the first begin below the text of the first, which stands behind its label.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        if _columns(paragraph) <= width:
            lines.append(paragraph)
            continue
        label = _LABEL.match(paragraph)
        line = "" if label is None else label[0]
        indent = _columns(line) if width - _columns(line) >= _NARROWEST else 0
        empty = True
        for word in re.findall(r"\S+ *", paragraph[len(line) :]):
            if not empty and _columns(line) + _columns(word.rstrip(" ")) > width:
                lines.append(line.rstrip(" "))
                line = " " * indent
            line, empty = line + word, False
        lines.append(line.rstrip(" "))
    return lines


def _columns(text: str) -> int:
    """Columns of a terminal that ``text`` takes: letters of East Asia take two, accents set on others none."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)
