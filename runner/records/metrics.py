"""``metrics.jsonl``: one JSON object a line, appended as the run goes, readable after a kill at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from runner.disk.files import sync_handle, write_bytes
from runner.disk.json_files import parse_json
from runner.disk.links import NO_FOLLOW
from runner.errors import RunError
from runner.records.json_values import encode, plain

METRICS_FILE = "metrics.jsonl"

LARGEST_LINE = 2**20
"""Bytes of a line, at most; a record takes a few hundred."""

_FIGURES = {"loss", "accuracy", "lr", "samples_per_second", "seconds", "epsilon"}

RecordKind = Literal["train", "val", "test"]
Record = dict[str, Any]
"""One line: ``step``, ``epoch`` and ``kind`` first, then the figures; every value is plain (see ``json_values``)."""

KINDS: tuple[RecordKind, ...] = ("train", "val", "test")


class MetricsWriter:
    """Appends records to a ``metrics.jsonl``.

    A record is one ``write`` of a whole line to a file opened for appending, so that a process that is killed leaves at
    most one torn line, the last, and several records are never mixed.  Nothing is held back in the process: a record
    that was written survives the process, though not a power cut before ``sync``.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path`` to append; a torn last line, left by a kill, is cut off first.

        Raises:
            RunError: when the file holds damage other than a torn last line.
        """
        self.path = path
        if path.exists():
            whole, records = _whole_lines(path)
            os.truncate(path, whole)
            self.count = len(records)
        else:
            self.count = 0
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | NO_FOLLOW, 0o644)

    def write(self, kind: RecordKind, *, step: int, epoch: float, **metrics: Any) -> Record:
        """Append one record and return it as a reader will find it.

        Raises:
            ValueError: for a kind that is not one of ``KINDS``.
            RunError: when the line could not be written whole, because the disk is full, say.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        record: Record = plain({"step": step, "epoch": epoch, "kind": kind, **metrics})
        line = (encode(record) + "\n").encode()
        try:
            written = os.write(self._handle, line)
        except OSError as error:
            raise RunError(f"{self.path.name}: cannot record step {step}: {error.strerror}") from error
        if written != len(line):
            raise RunError(f"{self.path.name}: cannot record step {step}: the disk is full")
        self.count += 1
        return record

    def sync(self) -> None:
        """Put what was written on the disk, so that a checkpoint never knows more steps than the file."""
        sync_handle(self._handle)

    def close(self) -> None:
        """Put everything on the disk and close the file."""
        self.sync()
        os.close(self._handle)


def read_metrics(path: Path) -> list[Record]:
    """Return the records of ``path`` in the order in which they were written; a torn last line is left out.

    Raises:
        RunError: when a whole line is not a record: the file was damaged by something other than a kill.
    """
    return _whole_lines(path)[1]


def truncate_after(path: Path, step: int, *, records: int | None = None) -> int:
    """Forget what a resumed run will do again: keep the records up to ``step``, atomically.

    Args:
        path: the ``metrics.jsonl``; when it does not exist there is nothing to forget.
        step: last step that the checkpoint covers.
        records: ``MetricsWriter.count`` at the checkpoint; keeps at most so many.  It settles what ``step`` cannot:
            whether the evaluation made at that very step came before the checkpoint or will be made again.

    Returns:
        Number of records kept.

    Raises:
        RunError: when the file is damaged.
    """
    if not path.exists():
        return 0
    found = read_metrics(path)[:records]
    kept = [record for record in found if record["step"] <= step]
    write_bytes(path, "".join(encode(record) + "\n" for record in kept).encode())
    return len(kept)


def _whole_lines(path: Path) -> tuple[int, list[Record]]:
    """Length in bytes of the lines that are whole, and their records."""
    whole, records = 0, list[Record]()
    if path.exists() and not path.is_file():
        raise RunError(f"{path.name}: not an ordinary file")
    with path.open("rb") as file:
        while (line := file.readline(LARGEST_LINE)).endswith(b"\n"):
            whole += len(line)
            records.append(_parse(path, len(records) + 1, line))
    if len(line) == LARGEST_LINE:
        raise RunError(f"{path.name}: line {len(records) + 1} has more than {LARGEST_LINE:,} bytes")
    return whole, records


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise RunError(f"{path.name}: line {number} is damaged: {error}") from error
    if not isinstance(record, dict) or list(record)[:3] != ["step", "epoch", "kind"] or record["kind"] not in KINDS:
        raise RunError(f"{path.name}: line {number} is not a record with step, epoch and kind")
    if type(record["step"]) is not int or type(record["epoch"]) not in (int, float):
        raise RunError(f"{path.name}: line {number} has no number as its step or epoch")
    for name in _FIGURES & set(record):
        if record[name] is not None and type(record[name]) not in (int, float):
            raise RunError(f"{path.name}: line {number} has no number as its {name}")
    return record
