"""Anchors of the ledgers: where each stood when this user last wrote to it, kept elsewhere.

Whoever cuts a ledger back, or puts an older copy in its place, can make its two files agree with each other.  They no
longer agree with a note in another folder: ``$XDG_STATE_HOME/recipe-runner/ledger``, by default ``~/.local/state``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.disk.json_files import read_json


class Unanchored(Exception):
    """A ledger is not the one that was written from here, or not all of it; the message says how."""


@dataclass(frozen=True)
class _Note:
    file: Path
    place: str
    """Where the ledger was."""
    first: str
    """Hash of its first line."""
    line: int
    """How many lines it had."""
    hash: str
    """Of the last of them."""


class Anchor:
    """The notes on the ledgers of one data set: one for each that was ever begun, whatever folder it lies in."""

    def __init__(self, folder: Path, contents: str) -> None:
        """``folder`` holds all notes; ``contents`` names the data set."""
        self._folder = folder
        self._contents = contents

    def compare(self, place: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        """Check that the ``lines`` of the ledger at ``place`` are at least those that were noted.

        Raises:
            Unanchored: some are missing or others, or the ledger that was there has gone.
            OSError: the notes cannot be read.
        """
        first = lines[0]["hash"] if lines else None
        for note in self._notes():
            meant = f"(noted in {note.file}: remove that file if this was meant)"
            if note.first == first:
                if len(lines) < note.line:
                    raise Unanchored(f"line {len(lines) + 1} is missing: {note.line} were written from here {meant}")
                if lines[note.line - 1]["hash"] != note.hash:
                    raise Unanchored(f"line {note.line} is not the one that was written from here {meant}")
            elif note.place == str(place.absolute()):
                raise Unanchored(f"line 1 is missing: a ledger of {note.line} lines was here {meant}")

    def note(self, place: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        """Note that the ledger at ``place`` has these ``lines``, at least one; its lock is held.

        Raises:
            OSError: it cannot be written; says where.
        """
        first = lines[0]["hash"]
        content = {"place": str(place.absolute()), "first": first, "line": len(lines), "hash": lines[-1]["hash"]}
        file = self._folder / f"{self._contents}.{first[:16]}.json"
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_text(json.dumps(content))
            temporary.replace(file)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} in {self._folder}, see XDG_STATE_HOME") from error

    @classmethod
    def places(cls, folder: Path) -> dict[Path, str]:
        """Path -> data set of every ledger that ``folder`` has a note on; an unreadable one shows with its ledger."""
        found: dict[Path, str] = {}
        for name in {file.name.partition(".")[0] for file in folder.glob("*.*.json")}:
            with contextlib.suppress(Unanchored):
                found |= {Path(note.place): name for note in cls(folder, name)._notes()}
        return found

    def _notes(self) -> list[_Note]:
        found = []
        for file in sorted(self._folder.glob(f"{self._contents}.*.json")):
            try:
                saved = read_json(file)
                note = _Note(file, str(saved["place"]), str(saved["first"]), int(saved["line"]), str(saved["hash"]))
            except (ValueError, KeyError, TypeError) as error:
                raise Unanchored(f"the note {file} is unreadable ({error})") from error
            found.append(note)
        return found


def anchor_folder() -> Path:
    """The folder of all notes: ``recipe-runner/ledger`` in the user's folder for state.

    That folder is ``$XDG_STATE_HOME`` or ``~/.local/state`` (XDG Base Directory Specification).
    """
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "recipe-runner" / "ledger"
