"""Overrides as typed, before Hydra parses them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from runner.errors import RequestError


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


def refuse_undecoded(key: str, value: str) -> None:
    """Refuse a value with bytes that are no text here: those of a name in another encoding than this process has.

    Python reads them as lone surrogates (PEP 383), which no configuration can hold.

    Raises:
        RequestError: names ``key``.
    """
    if any(0xDC80 <= ord(letter) <= 0xDCFF for letter in value):
        encoding = sys.getfilesystemencoding()
        # under UTF-8 the name itself is in another encoding
        remedy = "rename it" if encoding == "utf-8" else "LC_ALL=C.UTF-8 reads more"
        raise RequestError(key, value, f"text in {encoding}, the encoding of this process ({remedy})")
