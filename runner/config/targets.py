"""From the import path that a configuration names to what it stands for."""

from __future__ import annotations

from collections.abc import Iterable
from pkgutil import resolve_name
from typing import Any

from runner.config.errors import RequestError, nearest


def locate(group: str, target: str, what: str, *, among: Iterable[str] = ()) -> Any:
    """The callable that ``group._target_`` names.

    Args:
        group: of the configuration.
        target: the import path; whether it may be imported at all, the rules have checked.
        what: it should be, for people.
        among: names of which the user may have meant one.

    Raises:
        RequestError: there is no such thing, or it cannot be called.
    """
    try:
        found = resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        near = nearest(target.rpartition(".")[2], among)
        raise RequestError(f"{group}._target_", target, f"the import path of {what} ({error})", nearest=near) from error
    if not callable(found):
        raise RequestError(f"{group}._target_", f"{target}, which cannot be called", f"the import path of {what}")
    return found
