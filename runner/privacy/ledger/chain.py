"""A file of JSON lines that only grows, that several processes may write, and that shows what was changed in it.

Each line carries a number, the hash of the line before it and its own hash, so an edited, removed or moved line breaks
the chain at that line.  Removed lines at the end leave a chain that is whole; they show because a second file,
``NAME.head``, holds the number and hash of the last line, and is there before the first one.  Somebody who may write
both files can still make up another history, which shows where a third note of it is elsewhere (``anchor.py``): the
chain shows accidents and careless edits, it is no defence against its owner.

An append is one ``write`` under an exclusive ``flock``, put on the disk before it returns.  A process that is killed in
between leaves a last line without its line end, which nobody was promised: the next append cuts it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.disk.files import sync_directory, sync_handle
from runner.disk.json_files import parse_json, read_json
from runner.disk.lock import locked
from runner.privacy.ledger.anchor import Anchor, Unanchored

_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class BrokenChain(Exception):
    """What the file holds is not what was written; the message names the first line at fault."""


class Chain:
    """One such file; ``subject`` is what it is about, so that the file of another subject does not verify."""

    def __init__(self, path: Path, subject: str, anchor: Anchor | None = None) -> None:
        """``anchor`` knows from elsewhere how far the file had come; None for a file that is for the moment alone."""
        self.path = path
        self._anchor = anchor
        self.head = path.with_suffix(".head")
        self._first = hashlib.sha256(subject.encode()).hexdigest()

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The verified lines, and whether a torn one follows that the next append will cut off.

        Raises:
            BrokenChain: a line was edited, removed, moved or added.
            OSError: the file cannot be read.
        """
        if not self.path.exists():
            # An empty chain without a head is one that was never begun.
            self._compare_head([])
            self._compare_anchor([])
            return [], False
        with _locked(self.path, os.O_RDONLY) as handle:
            lines, whole = self._verified(handle)
            return lines, whole < os.fstat(handle).st_size

    @contextlib.contextmanager
    def appending(self) -> Iterator[Appender]:
        """Hold the file against all other writers; the lines in it cannot change until the end of the block.

        Raises:
            BrokenChain: see ``read``; nothing is then written.
            OSError: the file cannot be written.
        """
        with _locked(self.path, os.O_RDWR | os.O_CREAT) as handle:
            lines, whole = self._verified(handle)
            if whole < os.fstat(handle).st_size:
                os.ftruncate(handle, whole)
            os.lseek(handle, whole, os.SEEK_SET)
            yield Appender(self, handle, lines)

    def _verified(self, handle: int) -> tuple[list[dict[str, Any]], int]:
        """The lines of an open file, and the number of bytes up to the end of the last whole one."""
        content = _read_all(handle)
        whole = content.rfind(b"\n") + 1
        lines: list[dict[str, Any]] = []
        previous = self._first
        for number, text in enumerate(content[:whole].split(b"\n")[:-1], start=1):
            lines.append(_verified_line(text, number, previous))
            previous = lines[-1]["hash"]
        self._compare_head(lines)
        self._compare_anchor(lines)
        return lines, whole

    def _compare_anchor(self, lines: list[dict[str, Any]]) -> None:
        if self._anchor is None:
            return
        try:
            self._anchor.compare(self.path, lines)
        except Unanchored as fault:
            raise BrokenChain(str(fault)) from fault

    def _compare_head(self, lines: list[dict[str, Any]]) -> None:
        """The head is written after its line, so it may be one line behind after a kill and never more."""
        try:
            found = read_json(self.head)
            count, digest = int(found["line"]), str(found["hash"])
        except FileNotFoundError:
            if lines:
                raise BrokenChain(f"{self.head.name} is missing: how many lines were written is unknown") from None
            count, digest = 0, self._first
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenChain(f"{self.head.name} is unreadable ({error})") from error
        if count > len(lines):
            raise BrokenChain(f"line {len(lines) + 1} is missing: {count} lines were written")
        if count < len(lines) - 1:
            raise BrokenChain(f"line {count + 2} was added by something else, or {self.head.name} was changed")
        if digest != (lines[count - 1]["hash"] if count else self._first):
            raise BrokenChain(f"line {count} is not the one that was written")

    def write_head(self, line: int, digest: str) -> None:
        """Say which line is the last; the caller holds the lock, hence one temporary name is enough."""
        temporary = self.head.with_suffix(".head.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _write_all(handle, _ENCODER.encode({"hash": digest, "line": line}).encode())
            sync_handle(handle)
        finally:
            os.close(handle)
        temporary.replace(self.head)
        sync_directory(self.path.parent)

    def end_of(self, lines: list[dict[str, Any]]) -> tuple[int, str]:
        """Number and hash of the last of ``lines``."""
        return len(lines), lines[-1]["hash"] if lines else self._first

    def note(self, lines: list[dict[str, Any]]) -> None:
        """Tell the anchor how far the file has come; the caller holds the lock."""
        if self._anchor is not None:
            self._anchor.note(self.path, lines)

    def next_line(self, lines: list[dict[str, Any]], content: Mapping[str, Any]) -> dict[str, Any]:
        """The line that follows ``lines``."""
        _, previous = self.end_of(lines)
        line = {**content, "line": len(lines) + 1, "previous": previous}
        return {**line, "hash": _digest(line)}


class Appender:
    """The right to append to a locked chain."""

    def __init__(self, chain: Chain, handle: int, lines: list[dict[str, Any]]) -> None:
        self._chain = chain
        self._handle = handle
        self.lines = lines
        """All lines, verified; those appended here included."""

    def append(self, content: Mapping[str, Any]) -> None:
        """Add one line of plain values; it is on the disk when this returns.

        Raises:
            OSError: the disk is full, say; the next append then cuts off what was written of it.
        """
        # A kill may have left the head one behind; two behind would look like tampering, and so does no head at all.
        self._chain.write_head(*self._chain.end_of(self.lines))
        line = self._chain.next_line(self.lines, content)
        _write_all(self._handle, f"{_ENCODER.encode(line)}\n".encode())
        sync_handle(self._handle)
        self.lines.append(line)
        self._chain.write_head(*self._chain.end_of(self.lines))
        self._chain.note(self.lines)


def _verified_line(text: bytes, number: int, previous: str) -> dict[str, Any]:
    try:
        line = parse_json(text)
        own = line["hash"]
        if line["line"] != number or line["previous"] != previous:
            raise BrokenChain(f"line {number} does not follow the line before it")
        honest = _digest({key: value for key, value in line.items() if key != "hash"}) == own
        # The same values spelt otherwise are an edit as well.
        if not honest or _ENCODER.encode(line).encode() != text:
            raise BrokenChain(f"line {number} was edited")
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenChain(f"line {number} is no line of a ledger ({error})") from error
    return line


def _digest(line: Mapping[str, Any]) -> str:
    return hashlib.sha256(_ENCODER.encode(line).encode()).hexdigest()


@contextlib.contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)  # a pipe would be waited for
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is not an ordinary file")
        with locked(handle, path, shared=flags == os.O_RDONLY):
            yield handle
    finally:
        os.close(handle)


def _read_all(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    pieces = []
    while piece := os.read(handle, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
