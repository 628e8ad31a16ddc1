"""Names that came from files, as a picture can show them."""

from __future__ import annotations


def printable(name: str) -> str:
    r"""``name`` with everything that has no glyph, and would end or garble a picture, as its escape (``\x1b``)."""
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def shortened(name: str, most: int = 40) -> str:
    """``name`` as a picture has room for it beside what it shows."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
