"""The overrides as a person typed them, before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner.config.errors import RequestError


def key_of(line: str) -> str:
    """The key that ``line`` sets, without Hydra's signs around it."""
    return re.split("[=@]", line, maxsplit=1)[0].lstrip("+~")


def refuse_repeated(lines: Iterable[str], *, swept: bool = False) -> None:
    """Refuse a key that is typed twice, of which the last would count without a word.

    ``swept`` says whether several values of a key may be asked for in another way.

    Raises:
        RequestError: names the key and both values.
    """
    typed: dict[str, str] = {}
    for line in lines:
        key, value = key_of(line), line.partition("=")[2]
        if key in typed:
            several = f"; {key}={typed[key]},{value} with --multirun runs each"
            grid = swept and value != typed[key] and not key.startswith(("hydra", "resume"))
            raise RequestError(key, f"{typed[key]} and then {value}", f"{key} once{several if grid else ''}")
        typed[key] = value
