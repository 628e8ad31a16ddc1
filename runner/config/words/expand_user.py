"""``~`` and ``~user`` at the start of a path, expanded where no shell has done so."""

from __future__ import annotations

import os
import re

PATH_KEYS = ("data.root", "data.cache_dir", "model.weights", "privacy.ledger_dir")
"""Keys of a run that are paths."""

# a value, or an element of a sweep or a list; one in quotes is left to who reads the value
_UNQUOTED = re.compile(r"(?<=[=,\[(])[^,\[\](){}'\"=~]*~[^,\[\](){}'\"]*")
_DATABASE = re.compile(r"(?<=^sqlite:///)~.*")


def expand_user(path: str) -> str:
    """``path``, or the URL of a database file, with a home in place of ``~``; as it is where nobody knows that home."""
    expand = os.path.expanduser  # that of Path raises where there is no home
    return expand(_DATABASE.sub(lambda found: expand(found[0]), path))


def expand_user_in_lines(lines: list[str]) -> list[str]:
    """The overrides ``lines`` with homes in their values, which Hydra's grammar has no ``~`` for."""
    from hydra.core.override_parser.types import Quote, QuotedString  # programs without overrides do without Hydra

    def quoted(found: re.Match[str]) -> str:
        return str(QuotedString(expand_user(found[0]), Quote.double).with_quotes())

    return [
        key + equals + _UNQUOTED.sub(quoted, f"={value}")[1:] if equals else line
        for line in lines
        for key, equals, value in [line.partition("=")]
    ]
