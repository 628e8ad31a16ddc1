"""Choices that were made by measuring, kept in files.

The next run of the same kind, and every cell of a sweep, makes the same choice at no cost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.disk.files import write_text
from runner.disk.json_files import read_json
from runner.disk.lock import locked
from runner.disk.ownership import foreign

log = logging.getLogger(__name__)

_VERSION = 3
"""Of what the files hold and of how it is measured; a file of another version is as good as none."""


def keep(folder: Path, facts: Mapping[str, Any], choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was chosen under the same ``facts`` before, or else what ``choose`` gives, kept in ``folder`` from now on.

    Processes that ask at the same time wait for the first, and get its answer.

    Args:
        folder: made where it is missing.  One that cannot be written keeps nothing.
        facts: everything that the choice depends on, as values of JSON.
        choose: measures, and answers in values of JSON.
    """
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{name}.json"
    found = None
    try:
        with _alone(folder):
            found = _read(path)
            if found is None:
                found = choose()
                write_text(path, json.dumps({"version": _VERSION, "choice": found, "facts": facts}, indent=2))
    except OSError as error:
        log.warning("a measured choice cannot be kept in %s (%s): the next run measures again", folder, error.strerror)
        found = choose() if found is None else found
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """The choice in a file; None for one that is not there, not what ``keep`` writes, or may be another user's."""
    try:
        found = read_json(path)
        others = foreign(path)
    except (FileNotFoundError, ValueError):
        return None
    if others or not isinstance(found, dict) or found.get("version") != _VERSION:
        return None
    choice = found.get("choice")
    return choice if isinstance(choice, dict) else None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with locked(handle, path):
            yield
    finally:
        os.close(handle)
