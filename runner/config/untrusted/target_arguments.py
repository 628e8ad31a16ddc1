"""Which arguments a target of a configuration takes by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class TargetArguments(NamedTuple):
    """The arguments of a function or class."""

    named: dict[str, inspect.Parameter]
    """Those that have a name; of a class with ``**kwargs`` those of its bases too, to which it hands others on."""
    required: tuple[str, ...]
    """Those without a default that it names itself."""
    takes_others: bool
    """Whether it has ``**kwargs``."""


def target_arguments(target: Callable[..., Any]) -> TargetArguments:
    """What ``target`` takes by name; ``*args`` and ``**kwargs`` are no names."""
    own = _named(target)
    named, takes_others = dict(own), _takes_others(target)
    if takes_others and inspect.isclass(target):
        for base in target.__mro__[1:-1]:
            named = {**_named(base), **named}
            if not _takes_others(base):
                break
    required = tuple(name for name, parameter in own.items() if parameter.default is parameter.empty)
    return TargetArguments(named, required, takes_others)


def _named(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: one for name, one in _parameters(target) if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}


def _takes_others(target: Callable[..., Any]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for _, one in _parameters(target))


def _parameters(target: Callable[..., Any]) -> list[tuple[str, inspect.Parameter]]:
    try:
        return list(inspect.signature(target).parameters.items())
    except ValueError:  # of a class written in C, which tells none
        return []
