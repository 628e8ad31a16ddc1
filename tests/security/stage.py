"""Attacks by files from strangers: what each brings, what its victim does with it, and how it is seen to succeed.

A module ``tests/security/attacks_*.py`` holds attacks on one kind of files::

    @attack("targets", says="optimizer._target_")
    def a_name_of_the_attack(stage):
        stage.write("sweeps/mine.yaml", ...)     # what the stranger sends; its payload is stage.payload or stage.secret
        stage.main("sweep=mine")                 # what the victim does: a command, or any call of the program's own

    @guard("targets")
    def _without(patch):
        patch.setattr(...)                       # the guard of the family is gone

``test_attacks.py`` runs each attack twice: with its guard it ends in one line that has ``says`` in it and nothing has
landed; with the guard of its family taken away it lands.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.cli import main
from runner.config.errors import RequestError, RunError

SECRET = "hunter2-of-the-victim"
VARIABLE = "SECRET_OF_THE_VICTIM"
MARKER = "landed"


@dataclass(frozen=True)
class Attack:
    """One file or folder from a stranger."""

    name: str
    family: str
    says: str
    """Words of the line by which it is refused."""
    run: Callable[[Stage], None]


ATTACKS: list[Attack] = []
GUARDS: dict[str, Callable] = {}
"""Family -> function of a monkeypatch that takes its guard away."""


def attack(family, *, says):
    """Register a function of a stage as an attack that the guard of ``family`` refuses in a line with ``says``."""

    def register(function):
        ATTACKS.append(Attack(function.__name__, family, says, function))
        return function

    return register


def guard(family):
    """Register a function of a monkeypatch by which the guard of ``family`` is gone."""

    def register(function):
        assert family not in GUARDS
        GUARDS[family] = function
        return function

    return register


class Stage:
    """The victim's working folder, and the signs of a success."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = folder / MARKER
        self.payload = f"touch {self.marker}"
        """A shell command that leaves the marker."""
        self.said = ""
        """What the victim saw."""

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def main(self, *arguments: str) -> None:
        """The victim's command; what it refuses is raised, as it would be by a call."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(arguments))
        self.said += out.getvalue() + err.getvalue()
        if code != 0:
            raise RunError(err.getvalue().rstrip("\n").rpartition("\n")[2])

    def landed(self) -> bool:
        """Whether code has run, or the secret can be read in what the victim saw or in a file of this folder."""
        if self.marker.exists() or SECRET in self.said:
            return True
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return any(SECRET.encode() in path.read_bytes() for path in files)


def play(chosen: Attack, stage: Stage) -> RequestError | RunError | None:
    """Let the attack happen; returns the line that it ended in, and lets any other exception out."""
    os.environ[VARIABLE] = SECRET
    try:
        chosen.run(stage)
    except (RequestError, RunError) as refusal:
        return refusal
    finally:
        del os.environ[VARIABLE]
    return None
