"""YAML that a folder brings: plain values of a bounded size, whatever it says.

Nothing of it is built before its nodes have been looked at: a tag can ask for an object, an alias can stand for a
billion values, and a thousand brackets end a parser.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from runner.errors import RequestError

MOST_BYTES = 2**20
MOST_VALUES = 50_000
"""Values of a file, each alias counted with what it stands for."""
DEEPEST = 40
"""Mappings and lists inside one another."""

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
_TAGS |= {"tag:yaml.org,2002:timestamp"}
"""Those of plain values.  A date that is not quoted is given the last one by itself, and becomes text."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_untrusted(path: Path, key: str) -> DictConfig | ListConfig:
    """The YAML file ``path`` as OmegaConf reads it; raises as ``read_untrusted`` does."""
    return parse_untrusted(path, key, read_untrusted(path, key))


def parse_untrusted(path: Path, key: str, text: str) -> DictConfig | ListConfig:
    """The ``text`` of ``path``, which ``read_untrusted`` gave, as OmegaConf reads it; interpolations stay.

    Raises:
        RequestError: it is no configuration.
    """
    try:
        return OmegaConf.load(io.StringIO(text))
    except (yaml.YAMLError, ValueError, OSError, AssertionError) as error:  # the last for a number alone
        raise RequestError(key, f"{path} ({_line(error) or 'one value'})", "a YAML file of plain values") from error


def load_plain(path: Path, key: str) -> Any:
    """The YAML file ``path`` as Python's own values; raises as ``read_untrusted`` does."""
    text = read_untrusted(path, key)
    try:
        return yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(key, f"{path} ({_line(error)})", "a YAML file of plain values") from error


def read_untrusted(path: Path, key: str) -> str:
    """The text of the YAML file ``path``, which holds plain values.

    Args:
        path: the file.
        key: under which it was asked for, for the refusal.

    Raises:
        RequestError: it holds something else, or more than anybody writes.
        OSError: there is no such file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise RequestError(key, f"{path} (not an ordinary file)", "a YAML file of plain values")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RequestError(key, f"{path} (more than {MOST_BYTES:,} bytes)", "a YAML file of a size to be read")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RequestError(key, f"{path} ({error})", "a YAML file in UTF-8") from error
    _check(path, key, text)
    return text


def _check(path: Path, key: str, text: str) -> None:
    """Look at the events of ``text``: no node is made of an alias, and none inside another."""
    sizes: dict[str, int] = {}
    open_anchors: list[tuple[str | None, int]] = []
    values = depth = 0
    expected = "a YAML file of plain values"
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            tag = getattr(event, "tag", None)
            if tag not in (None, "!") and tag not in _TAGS:
                place = f"{path}:{event.start_mark.line + 1}"
                raise RequestError(key, f"{place} (the tag {_short(tag)})", f"{expected}, without tags")
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                values, depth = values + 1, depth + 1
                open_anchors.append((event.anchor, values))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                depth -= 1
                anchor, before = open_anchors.pop()
                if anchor is not None:
                    sizes[anchor] = values - before + 1
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in sizes:
                    raise RequestError(key, f"{path} (*{event.anchor} is inside itself, or nowhere)", expected)
                values += sizes[event.anchor]
            elif isinstance(event, yaml.ScalarEvent):
                values += 1
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            if values > MOST_VALUES:
                raise RequestError(key, f"{path} (more than {MOST_VALUES:,} values)", expected)
            if depth > DEEPEST:
                raise RequestError(key, f"{path} (more than {DEEPEST} levels)", expected)
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise RequestError(f"{path}:{line}", error.problem or "bad YAML", "valid YAML") from error
    except yaml.YAMLError as error:
        raise RequestError(key, f"{path} ({_line(error)})", expected) from error


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
