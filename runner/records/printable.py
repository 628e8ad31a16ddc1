"""Names that came from files, as a picture can show them."""

from __future__ import annotations


def printable(name: str) -> str:
    r"""``name`` with everything that has no glyph, and would end or garble a picture, as its escape (``\x1b``)."""
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
