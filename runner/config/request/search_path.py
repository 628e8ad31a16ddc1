"""``hydra.searchpath``: further places where options lie, typed on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from runner.config.words.override_lines import key_of
from runner.errors import RequestError

SEARCHPATH = "hydra.searchpath"


def searched(lines: Iterable[str]) -> list[str]:
    """The places that the last ``hydra.searchpath`` among ``lines`` names: ``file://`` and a folder, or a folder alone.

    Raises:
        RequestError: it is no list.
    """
    typed = [line for line in lines if key_of(line) == SEARCHPATH]
    if not typed:
        return []
    expected = f"a list, such as {SEARCHPATH}=[file:///home/me/parts]"
    try:
        override = OverridesParser.create().parse_override(typed[-1])
    except HydraException as error:
        raise RequestError(SEARCHPATH, typed[-1].partition("=")[2], expected) from error
    value = override.value()
    if override.is_sweep_override() or not isinstance(value, list):
        raise RequestError(SEARCHPATH, typed[-1].partition("=")[2], expected)
    return [item.text if isinstance(item, QuotedString) else str(item) for item in value]
