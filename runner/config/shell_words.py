"""Overrides as they are typed in a shell."""

from __future__ import annotations

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException


def shell_line(line: str) -> str:
    """The override ``line``, quoted for Hydra where it cannot read it as it stands, and for the shell."""
    key, equals, value = line.partition("=")
    try:
        OverridesParser.create().parse_override(line)
    except HydraException:
        line = f"{key}{equals}{QuotedString(value, Quote.single).with_quotes()}"
    return shlex.quote(line)


def folder_line(key: str, folder: object) -> str:
    """``key=folder`` for a shell: the text of the path and nothing else, whatever characters it has."""
    text = QuotedString(str(folder), Quote.single).with_quotes()
    plain = f"{key}={folder}"
    return plain if shlex.quote(plain) == plain and _is_text(plain, str(folder)) else shlex.quote(f"{key}={text}")


def _is_text(line: str, text: str) -> bool:
    """Whether Hydra reads ``line`` as the text and not as a number, say, or a list."""
    try:
        return OverridesParser.create().parse_override(line).value() == text
    except HydraException:
        return False
