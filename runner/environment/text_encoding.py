"""Output on streams whose encoding lacks characters (ASCII, Latin-1): spelled out instead of failing."""

from __future__ import annotations

import codecs
import io
import sys

_NAMES = {
    "\N{GREEK SMALL LETTER EPSILON}": "epsilon",
    "\N{GREEK SMALL LETTER DELTA}": "delta",
    "\N{GREEK SMALL LETTER SIGMA}": "sigma",
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{FULL BLOCK}": "#",
    "\N{BOX DRAWINGS HEAVY HORIZONTAL}": "-",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
}
SPELLED = "recipe_runner_spelled"
"""Name of the way to encode by which a letter that an encoding lacks becomes its name, or its escape."""


def escape_unencodable() -> None:
    """Have the standard streams of this process write what their encoding lacks by its name, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        # streams that were closed, or that a test or a notebook put there, are theirs
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=SPELLED)


def encodable_text(text: str, encoding: str) -> str:
    """``text`` in the letters of ``encoding``."""
    return text.encode(encoding, SPELLED).decode(encoding)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    # a byte of a file name that is not UTF-8 comes as a lone surrogate
    return "".join(_NAMES.get(letter) or _escape(letter) for letter in letters), error.end


def _escape(letter: str) -> str:
    code = ord(letter)
    return (
        f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else letter.encode("ascii", "backslashreplace").decode()
    )


codecs.register_error(SPELLED, _spell)
