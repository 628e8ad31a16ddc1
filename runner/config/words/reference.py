"""The reference of all keys and options, from the schema's docstrings and the options' comments."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from runner.config.groups import CLOSED, OPEN, SECTIONS, field_name, yaml_key
from runner.config.rules.rules import RULES
from runner.config.schema import AugmentConfig, RunConfig
from runner.config.store import shipped
from runner.errors import plainly

_NOT_SET = ("name", "_target_", "defaults", "hydra")
"""What of an option's file is no key that it sets: what it is, and how it is composed."""
_KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key that can be set."""

    name: str
    """Dotted, as it is typed."""
    kind: str
    """What its value is, in words."""
    default: str
    """As it would be typed."""
    meaning: str
    """Plain text, with names of keys between backticks."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a group."""

    group: str
    name: str
    meaning: str
    """The comment that its file begins with."""
    keys: tuple[Key, ...]
    """What it takes beyond the keys of the group."""
    sets: tuple[str, ...]
    """Lines ``key=value`` for the keys of the schema that have other values with it."""


def keys_of(group: str) -> list[Key]:
    """The keys of ``group``, by the schema; of no group for an empty name."""
    kinds = {**OPEN, **CLOSED, **SECTIONS, "data.augment": AugmentConfig, "": RunConfig}
    texts = documented(kinds[group])
    found = []
    for one in fields(kinds[group]):
        if one.name in ("options", "augment") or (not group and one.name in (*OPEN, *CLOSED, *SECTIONS)):
            continue
        name = f"{group}.{yaml_key(one.name)}".lstrip(".")
        default = _default(one)
        kind = typing.get_type_hints(kinds[group])[one.name]
        found.append(Key(name=name, kind=_kind(name, kind), default=plainly(default), meaning=texts[one.name]))
    return found


def options_of(group: str) -> list[Option]:
    """The options of ``group`` that are shipped, by their own files."""
    folder = shipped("sweeps") if group == "sweep" else shipped("conf") / group
    return [_read_option(group, file) for file in sorted(folder.glob("*.yaml"))]


def default_options() -> dict[str, str]:
    """Group -> the option that is taken where none is named."""
    root = yaml.safe_load((shipped("conf") / "config.yaml").read_text(encoding="utf-8"))
    return {name: option for entry in root["defaults"] if isinstance(entry, dict) for name, option in entry.items()}


def documented(kind: type) -> dict[str, str]:
    """Field -> its docstring, in one line, of the dataclass ``kind``."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for one, text in itertools.pairwise(body.body):
        if isinstance(one, ast.AnnAssign) and isinstance(text, ast.Expr):
            texts[ast.unparse(one.target)] = " ".join(str(ast.literal_eval(text.value)).replace("``", "`").split())
    return texts


def _read_option(group: str, file: Path) -> Option:
    text = file.read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text) or {}
    heading = list(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    comments = [line.removeprefix("#").strip() for line in heading if not line.startswith("# @package")]
    known = {field.name for field in fields(OPEN[group])} - {"options"} if group in OPEN else None
    own, meaning = [], ""
    for name, value in values.items():
        if known is None or name == "defaults" or field_name(name) in known:
            meaning = ""
            continue
        meaning = _comment_above(name, text) or meaning
        key = f"{group}.{name}"
        rule = str(RULES[key]).removeprefix("a number") if key in RULES else ""
        own.append(Key(name=key, kind=_kind_of(value) + rule, default=plainly(value), meaning=meaning))
    mine = {key.name.rpartition(".")[2] for key in own}
    return Option(
        group=group,
        name=file.stem,
        meaning=" ".join(" ".join(comments).split()),
        keys=tuple(own),
        sets=tuple(_lines({name: value for name, value in values.items() if name not in (*mine, *_NOT_SET)})),
    )


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={plainly(value)}"


def _comment_above(name: str, text: str) -> str:
    """The comment right above the key ``name``, in one line; empty where there is none."""
    above, _, _ = text.partition(f"\n{name}:")
    lines = list(itertools.takewhile(lambda line: line.startswith("#"), reversed(above.splitlines())))
    return " ".join(line.removeprefix("#").strip() for line in reversed(lines))


def _default(source: Field) -> Any:
    return source.default_factory() if source.default_factory is not MISSING else source.default


def _kind(name: str, hint: Any) -> str:
    rule = RULES.get(name)
    words = _kind_of_hint(hint)
    if rule is None:
        return words
    null = " or null" if "null" in words else ""
    text = str(rule) if type(rule).__str__ is not object.__str__ else ""
    if hasattr(rule, "names"):
        return ", ".join(str(item) for item in rule.names) + null
    if hasattr(rule, "kind"):
        return f"{rule.kind}, or null"
    if hasattr(rule, "word"):
        return f"whole number >= 1, or {rule.word}{null}"
    return words.replace(" or null", "") + text.removeprefix("a number").rstrip() * bool(text) + null


def _kind_of_hint(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_kind_of_hint(one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(str(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return f"list of {_KINDS[typing.get_args(hint)[0]]}s".replace("texts", "words")
    return _KINDS.get(hint, "value")


def _kind_of(value: Any) -> str:
    """The kind of a default, which every value of its key must be of; anything where that is null."""
    if isinstance(value, list):
        return f"list of {_kind_of(value[0])}s".replace("texts", "words") if value else "list"
    return "mapping" if isinstance(value, dict) else "null or a value" if value is None else _KINDS[type(value)]


def short(text: str) -> str:
    """What ``text`` begins with, up to the first full stop or semicolon."""
    return re.split(r"[.;](?: |$)", text.replace("`", ""), maxsplit=1)[0]
