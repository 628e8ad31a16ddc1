"""Type checks of dataclasses that were filled from a file."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any


def check_types(value: Any, path: str = "") -> None:
    """Refuse a dataclass of which a field, at any depth, holds a value of another type than its annotation.

    A whole number is a number, and None stands for a number that is not finite, for which JSON has no word.

    Raises:
        TypeError: names the field.
    """
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        _check(getattr(value, field.name), hints[field.name], f"{path}.{field.name}".lstrip("."))


def _check(value: Any, hint: Any, path: str) -> None:
    if not _fits(value, hint):
        raise TypeError(f"{path} is {_short(value)}")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        check_types(value, path)


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, arguments[1]) for item in value.values())
    if hint is float:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and _finite(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _short(value: Any) -> str:
    return f"{value!r:.60}"
