"""What is typed in Python: overrides as on the command line, and keywords, each of which is one value."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from runner.config.request.hydra_record import ROOT
from runner.errors import RequestError

Value = str | bool | int | float | PathLike[str] | None | Sequence[Any] | Mapping[str, Any]
"""What a keyword may be set to."""

_FLAGS = ("config_dir", "config_name")


def lines_of(overrides: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """The overrides as they would be typed: ``overrides`` as they stand, then key and value of each of ``values``.

    Text is that text and nothing else, whatever characters it has: ``{"name": "1,2"}`` names a run and sweeps nothing.

    Raises:
        RequestError: an override is no string, or a value cannot be typed.
    """
    for line in overrides:
        if not isinstance(line, str):
            expected = 'text such as "trainer=dp"; a mapping is given as **{"privacy.epsilon": 3}'
            raise RequestError("an override", repr(line), expected)
    return [*overrides, *(f"{key}={_typed(key, value)}" for key, value in values.items())]


def read_values(overrides: Sequence[str], values: Mapping[str, Any]) -> tuple[list[str], Path | None, str]:
    """The overrides of a call, and what ``config_dir`` and ``config_name`` among its keywords say.

    They are no parameters of their own, so that ``**{"privacy.epsilon": 3}`` has a type.

    Raises:
        RequestError: an override is no string, or a value is none that it may be.
    """
    flags = flags_in(values)
    for name, value in flags.items():
        if not isinstance(value, str | PathLike):
            raise RequestError(name, repr(value), "the path of a folder" if name == "config_dir" else "a name")
    extra = Path(flags["config_dir"]).expanduser().absolute() if "config_dir" in flags else None
    lines = lines_of(overrides, {key: value for key, value in values.items() if key not in _FLAGS})
    return lines, extra, flags.get("config_name", ROOT)


def flags_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that are flags of the command line."""
    return {key: values[key] for key in _FLAGS if values.get(key) is not None}


def call_of(function: str, overrides: Sequence[str], values: Mapping[str, Any]) -> str:
    """The call of ``function`` with these arguments, as it can be pasted into a program."""
    plain = {key: fspath(value) if isinstance(value, PathLike) else value for key, value in values.items()}
    given = [f"{key}={value!r}" for key, value in plain.items() if key.isidentifier()]
    dotted = {key: value for key, value in plain.items() if not key.isidentifier()}
    return f"{function}({', '.join([*map(repr, overrides), *given, *([f'**{dotted!r}'] if dotted else [])])})"


def _typed(key: str, value: Any) -> str:
    """``value`` in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return repr(number) if math.isfinite(number) else str(number)
    if isinstance(value, PathLike):
        value = fspath(value)
    if isinstance(value, str):
        return value if _is_that_text(value) else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_typed(key, name)}:{_typed(key, inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "[" + ",".join(_typed(key, inner) for inner in value) + "]"
    raise RequestError(key, repr(value), "text, a number, true or false, None, a path, or a list or mapping of them")


def _is_that_text(text: str) -> bool:
    """Whether Hydra reads ``text`` as itself, and not as a number, say, or several values."""
    try:
        return bool(OverridesParser.create().parse_override(f"key={text}").value() == text) and text != ""
    except HydraException:
        return False
