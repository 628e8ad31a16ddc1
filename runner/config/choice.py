"""Values that were chosen, and changed copies of the records that hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
Record = TypeVar("Record")

ChosenBy = Literal["request", "rule", "measurement", "earlier"]
"""What chose a value: who typed it, a rule on known facts, a measurement on this machine, or the run that goes on."""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A value that a request may leave open, and what it was chosen by."""

    value: T
    source: ChosenBy
    reason: str | None
    """The same for people, such as the times that were measured; None where there is nothing to say."""


def evolve(record: Record, changes: Mapping[str, Any]) -> Record:
    """A copy of ``record``, a dataclass of dataclasses, with other values at dotted names.

    ``evolve(plan, {"semantic.precision.dtype": "float64"})`` changes one field three levels down.

    Raises:
        AttributeError: there is no such part.
        TypeError: the part has no such field, or is None.
    """
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    parts = {name: evolve(getattr(record, name), within) for name, within in inner.items()}
    return dataclasses.replace(record, **own, **parts)  # type: ignore[type-var]
