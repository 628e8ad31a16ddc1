"""The place in the user's own code where an error was raised."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from runner.config.plugins import installed_plugins
from runner.config.untrusted.trusted_packages import own_packages

_PACKAGE = Path(__file__).resolve().parents[2]
_INSTALLED = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_LIBRARIES = _INSTALLED | {path.resolve() for path in _INSTALLED}
_OF_LIBRARIES = {"site-packages", "dist-packages"}
"""Folders of installed packages, those of another environment that this one uses among them."""


def location_in_user_code(error: BaseException) -> str | None:
    """``file, line, in function`` of the innermost frame of ``error`` that lies in the user's own code; None without.

    That is a module of ``RECIPE_RUNNER_TARGETS`` or of a plug-in, or one that neither belongs to the runner nor is
    installed.  An error that another one was made of is followed back to it.
    """
    for one in _chain(error):
        own = [
            f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(one.__traceback__)
            if _is_own(str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename)
        ]
        if isinstance(one, SyntaxError) and one.filename and _is_own("", one.filename):
            return f"{one.filename}, line {one.lineno}"
        if own:
            return own[-1]
    return None


def with_place(text: str, error: BaseException) -> str:
    """``text`` with the place in the user's own code behind it, where there is one."""
    place = location_in_user_code(error)
    return text if place is None or place in text else f"{text} ({place})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _is_own(module: str, file: str) -> bool:
    if module and any(module == name or module.startswith(f"{name}.") for name in own_packages()):
        return True
    if module and installed_plugins().with_package(module) is not None:
        return True
    path = Path(file)
    if not own_packages() or not path.is_absolute() or module == "__main__" or not path.is_file():
        return False
    # an installed package may be a link to where it is kept
    known = any(one.is_relative_to(place) for one in (path, path.resolve()) for place in _LIBRARIES)
    known = known or not _OF_LIBRARIES.isdisjoint(path.parts)
    return not known and not path.resolve().is_relative_to(_PACKAGE)
