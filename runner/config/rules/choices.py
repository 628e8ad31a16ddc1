"""Values of which there are a few: the schema's annotations name them, ``Literal["best", "last"]``."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from runner.config.groups import CLOSED, OPEN, SECTIONS
from runner.errors import RequestError, as_typed, nearest


@dataclass(frozen=True)
class Choices:
    """One of a few words or numbers."""

    names: tuple[Any, ...]

    def check(self, key: str, value: Any) -> None:
        """Raises ``RequestError``, with the name most alike, when ``value`` is none of them."""
        if value not in self.names:
            raise self.refusal(key, value)

    def refusal(self, key: str, value: Any, *, place: str = "") -> RequestError:
        """What to say of a ``value`` that is none of them; ``place`` is where it stands."""
        names = [str(name) for name in self.names]
        near = nearest(str(value), names)
        return RequestError(key, f"{as_typed(value)}{place}", f"one of {', '.join(names)}", nearest=near)


def choices_of_schema() -> dict[str, Choices]:
    """Dotted key -> what it may be, of every key whose annotation is a ``Literal``."""
    found: dict[str, Choices] = {}
    for group, kind in (OPEN | CLOSED | SECTIONS).items():
        found |= {f"{group}.{name}": choices for name, choices in choices_of(kind).items()}
    return found


def choices_of(kind: type) -> dict[str, Choices]:
    """Field -> what it may be, of every field of the dataclass ``kind`` whose annotation is a ``Literal``."""
    hints = typing.get_type_hints(kind)
    return {name: Choices(names) for name, hint in hints.items() if (names := tuple(_literals(hint)))}


def _literals(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is Literal:
        yield from typing.get_args(hint)
    elif typing.get_origin(hint) in (types.UnionType, typing.Union):
        for part in typing.get_args(hint):
            yield from _literals(part)
