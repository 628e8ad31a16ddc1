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
import dataclasses
import io
import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.api import start_run
from runner.commands import train as cli
from runner.config.compose import Composer
from runner.config.request.request import Request, read_request
from runner.config.rules.rules import check
from runner.config.schema import RunConfig
from runner.errors import ExitCode, RequestError, RunError
from runner.execution.attempt import Attempt
from runner.records.environment import describe_environment

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
        """The victim's command for one run, up to its first step; what it refuses is raised, as by a call."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(start_run, "attempt_run", self._begin)
            code = cli.main(list(arguments))
        self.said += out.getvalue() + err.getvalue()
        if code != 0:
            raise RunError(err.getvalue().rstrip("\n").rpartition("\n")[2])

    def ask(self, *arguments: str) -> Request:
        """The victim's command for a sweep, as far as its cells are known; raises what is refused."""
        with contextlib.chdir(self.folder):
            request = read_request(Composer(caller=self.folder), arguments, multirun=False, check=check)
        for config in request.configs:
            self._record(config, dataclasses.asdict(config))
        return request

    def _begin(self, config: RunConfig, plain: Any, run_dir: Path, **named: Any) -> Attempt:
        describe_environment()
        self._record(config, plain)
        return Attempt(exit_code=ExitCode.DONE)

    def _record(self, config: RunConfig, plain: Any) -> None:
        """What a run writes down, and gives to its tracker."""
        with (self.folder / "records.jsonl").open("a") as file:
            print(json.dumps(plain), file=file)
        if config.tracker.mode == "online" or config.data.cache_dir == str(self.marker):
            self.marker.touch()

    def landed(self) -> bool:
        """Whether code has run or something was sent, or the secret stands in what the victim saw or in a file."""
        if self.marker.exists() or SECRET in self.said:
            return True
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return any(SECRET.encode() in path.read_bytes() for path in files)


@contextlib.contextmanager
def listener(stage):
    """A port of this machine; whoever calls it, with whatever in hand, leaves the marker."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                stage.marker.touch()
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes who waits there
            thread.join()


def play(chosen: Attack, stage: Stage) -> RequestError | RunError | None:
    """Let the attack happen; returns the line that it ended in, and lets any other exception out."""
    os.environ[VARIABLE] = SECRET
    try:
        chosen.run(stage)
    except (RequestError, RunError) as refusal:
        stage.said += str(refusal)
        return refusal
    finally:
        del os.environ[VARIABLE]
    return None
