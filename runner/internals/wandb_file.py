"""Reader of the files that W&B writes offline: what was really recorded, without the help of the writer.

Format, found by reading files of wandb 0.31 and of its open-source core (``core/pkg/leveldb``): seven bytes
``:W&B``, 0xBEE1 (little endian) and a version; then the log format of LevelDB (``doc/log_format.md`` there), that is
blocks of 32 KiB with chunks of CRC (4 bytes), length (2), type (1: whole, 2: first, 3: middle, 4: last) and data, all
little endian.  Unlike LevelDB's, the CRC is the plain CRC-32 of zlib, over type and data.  Each joined record is a
``Record`` of ``wandb_internal.proto``.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import RunError

_HEADER = struct.Struct("<4sHB")
_CHUNK = struct.Struct("<IHB")
_BLOCK = 32 * 1024
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(kw_only=True)
class WandbRun:
    """What one ``.wandb`` file holds."""

    run_id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    """One dict a step, W&B's own keys (``_step``, ``_timestamp``, ``_runtime``) among them."""
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    """None when the file has no end: the writer was killed or could not write on."""


def read_wandb_file(path: Path) -> WandbRun:
    """Read an offline ``.wandb`` file; a torn end, left by a kill or a full disk, is left out.

    Raises:
        RunError: when the file is not one of W&B's, or a chunk before the end does not match its checksum.
    """
    from wandb.proto import wandb_internal_pb2

    run = WandbRun()
    for content in _records(path):
        record: Any = wandb_internal_pb2.Record.FromString(content)  # type: ignore[attr-defined]  # made at run time
        match record.WhichOneof("record_type"):
            case "run":
                run.run_id, run.name, run.project = record.run.run_id, record.run.display_name, record.run.project
                run.group, run.job_type, run.tags = record.run.run_group, record.run.job_type, tuple(record.run.tags)
                _update(run.config, record.run.config)
            case "config":
                _update(run.config, record.config)
            case "history":
                run.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
            case "summary":
                _update(run.summary, record.summary)
            case "exit":
                run.exit_code = record.exit.exit_code
    run.config.pop("_wandb", None)  # W&B's notes on itself.
    return run


def _key(item: Any) -> str:
    return "/".join(item.nested_key) if item.nested_key else item.key


def _update(values: dict[str, Any], record: Any) -> None:
    for item in record.update:
        values[_key(item)] = json.loads(item.value_json)
    for item in record.remove:
        values.pop(_key(item), None)


def _records(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    if len(content) < _HEADER.size or _HEADER.unpack_from(content)[:2] != (b":W&B", 0xBEE1):
        raise RunError(f"{path}: not a file of W&B")
    parts: list[bytes] = []
    offset = _HEADER.size
    while offset < len(content):
        room = _BLOCK - offset % _BLOCK
        if room < _CHUNK.size:  # Too small for a chunk: zeros up to the next block.
            offset += room
            continue
        if offset + _CHUNK.size > len(content):
            return
        checksum, length, kind = _CHUNK.unpack_from(content, offset)
        end = offset + _CHUNK.size + length
        if end > len(content):
            return
        if zlib.crc32(content[offset + _CHUNK.size - 1 : end]) != checksum:
            raise RunError(f"{path}: damaged at byte {offset}")
        if kind in (_WHOLE, _FIRST):
            parts = []
        parts.append(content[offset + _CHUNK.size : end])
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
        offset = end
