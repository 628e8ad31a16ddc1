"""The plain values that a record may hold: what strict JSON can express, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from runner.disk.files import write_text

_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
_PRETTY = json.JSONEncoder(allow_nan=False, ensure_ascii=False, indent=2)


def plain(value: Any) -> Any:
    """Return ``value`` as None, bool, int, float, str, list or dict with string keys.

    A float that is not finite becomes None: JSON has no word for it, and the ``NaN`` that most writers emit is refused
    by most readers.  Scalars of numpy and torch become Python's, arrays become lists, dataclasses dicts, paths strings.

    Raises:
        TypeError: for a value that has no plain form.
    """
    if value is None or isinstance(value, (bool, str)):
        # An enum that is also a string must not reach the encoder as an enum.
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    # numpy and torch share this method, so neither needs to be imported to be recognised.
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def encode(value: Any) -> str:
    """Return ``value`` as strict JSON on one line."""
    return _ENCODER.encode(plain(value))


def encode_pretty(value: Any) -> str:
    """Return ``value`` as strict JSON, indented for a reader, with a line end."""
    return _PRETTY.encode(plain(value)) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Replace the file ``path`` by ``value`` as strict JSON, atomically and durably."""
    write_text(path, encode_pretty(value))
