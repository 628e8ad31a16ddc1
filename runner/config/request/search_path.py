"""``hydra.searchpath``: further places where options lie, typed on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from runner.config.words.override_lines import key_of
from runner.errors import RequestError
from runner.internals.hydra_parts import ImportlibResourcesConfigSource

SEARCHPATH = "hydra.searchpath"


def searched(lines: Iterable[str]) -> list[str]:
    """The places that the last ``hydra.searchpath`` among ``lines`` names.

    Those are ``pkg://`` and a package, ``file://`` and a folder, or a folder alone.

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


def require_places(places: Iterable[str]) -> None:
    """Refuse a search path of which one of ``places`` is not there; the package of a ``pkg://`` is imported for it.

    Raises:
        RequestError: names the place.
    """
    for place in places:
        if not _is_there(place):
            got = place.removeprefix("file://")
            raise RequestError(SEARCHPATH, got, "folders that exist, or pkg:// and a package with an __init__.py")


def with_last_search_path(lines: Iterable[str]) -> list[str]:
    """``lines`` with the last ``hydra.searchpath`` alone: Hydra takes the first, and of every other key the last."""
    lines = list(lines)
    typed = [number for number, line in enumerate(lines) if key_of(line) == SEARCHPATH]
    return [line for number, line in enumerate(lines) if number not in typed[:-1]]


def _is_there(place: str) -> bool:
    if not place.startswith("pkg://"):
        return Path(place.removeprefix("file://")).is_dir()
    try:
        return bool(ImportlibResourcesConfigSource(provider=SEARCHPATH, path=place).available())
    except (ImportError, ValueError):
        return False
