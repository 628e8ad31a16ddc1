"""Turns a composed configuration into the dataclasses of ``schema``, every value converted or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from dataclasses import fields
from functools import reduce
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.groups import CLOSED, OPEN, SECTIONS, field_name
from runner.config.rules.choices import choices_of_schema
from runner.config.rules.ranges import BATCH_SIZE
from runner.config.schema import AugmentConfig, RunConfig
from runner.config.store import root_node
from runner.config.words.expand_user import PATH_KEYS, expand_user
from runner.errors import RequestError
from runner.internals.omegaconf_nodes import node_of

CONSTANTS = frozenset({"data.mean", "data.std"})


class OfOption(list):  # type: ignore[type-arg]
    """Constants of the normalisation that the data's option states and nobody typed: those of weights come first."""


def load_config(
    config: DictConfig,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    typed_keys: Set[str] = frozenset(),
) -> RunConfig:
    """The typed form of ``config``, composed or read back from a run's ``.hydra/config.yaml``.

    ``defaults`` maps an open group to what its option's own YAML says (``Composer.option_defaults``): an option's
    value must be of the kind of its default there, where that is not null.  ``typed_keys`` are those of the command
    line: typed constants of the normalisation are not replaced by those of weights.

    Raises ``RequestError`` for a missing value, an interpolation that leads nowhere, a value of the wrong type, an
    unknown key and a number that is not finite.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra", None)
    _refuse_missing("", plain)
    for name, kind in SECTIONS.items():
        if not isinstance(plain.get(name, {}), dict):
            raise RequestError(name, plain[name], f"a mapping of its keys: {', '.join(f.name for f in fields(kind))}")
    try:
        typed = OmegaConf.merge(root_node(), plain)
        assert isinstance(typed, DictConfig)
        values = {str(key): _plain(typed, str(key)) for key in typed}
    except OmegaConfBaseException as error:
        raise _conversion_error(error, plain) from error
    for key, value in values.items():
        _refuse_not_finite(key, value)
    closed = CLOSED | SECTIONS
    groups: dict[str, Any] = {name: kind(**_fields(values[name])) for name, kind in closed.items()}
    for name, kind in OPEN.items():
        known = {f.name for f in fields(kind)} - {"options"}
        given = _fields(values[name])
        options = {key: value for key, value in given.items() if key not in known}
        for key, value in options.items():
            default = (defaults or {}).get(name, {}).get(key)
            _check_kind(f"{name}.{key}", value, default)
        groups[name] = kind(**{key: value for key, value in given.items() if key in known}, options=options)
    groups["data"].augment = AugmentConfig(**values["data"]["augment"])
    for group, key in (path.split(".") for path in PATH_KEYS):
        if isinstance(path := getattr(groups[group], key), str):
            setattr(groups[group], key, expand_user(path))
    if isinstance(size := groups["data"].batch_size, str):
        if size.isdecimal():  # quoted, or from the environment
            groups["data"].batch_size = int(size)
        else:
            BATCH_SIZE.check("data.batch_size", size)
    data = groups["data"]
    if not typed_keys & CONSTANTS and data.mean is not None and data.std is not None:
        data.mean, data.std = OfOption(data.mean), OfOption(data.std)
    loose = {key: value for key, value in values.items() if key not in groups}
    return RunConfig(**groups, **loose)


def typed_keys(hydra: DictConfig) -> frozenset[str]:
    """The keys that a command line names, or a sweep for the cell; ``hydra`` is Hydra's part of a configuration."""
    lines: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # as typed: a value may refer to nothing
    return frozenset(line.partition("=")[0].lstrip("+") for line in lines)


def _plain(config: DictConfig, key: str) -> Any:
    node = node_of(config, key)
    if isinstance(node, DictConfig):
        return OmegaConf.to_container(node, resolve=True)
    return config[key]


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {field_name(key): value for key, value in values.items()}


def _conversion_error(error: OmegaConfBaseException, given: Mapping[str, Any]) -> RequestError:
    key = error.full_key or "config"
    if (choices := choices_of_schema().get(key)) is not None:
        return choices.refusal(key, reduce(lambda part, name: part[name], key.split("."), given))
    text = str(error).splitlines()[0]
    wrong = re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)", text)
    if wrong:
        return RequestError(key, wrong[1], f"a value of the type {wrong[2].lower()}")
    return RequestError(key, f"a value that cannot be used ({text})", "one that resolves to the type of the key")


def _refuse_missing(key: str, value: Any) -> None:
    if value == "???":
        raise RequestError(key, "no value", f"{key}=...")
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_missing(f"{key}.{name}".lstrip("."), item)


def _refuse_not_finite(key: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(key, value, "a finite number")
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_not_finite(f"{key}.{name}", item)
    elif isinstance(value, list):
        for item in value:
            _refuse_not_finite(key, item)


def _check_kind(key: str, value: Any, default: Any) -> None:
    """Refuse a ``value`` of another kind than its ``default``; a null default says nothing, and 1 is a number too."""
    if default is None:
        return
    if isinstance(default, dict) and isinstance(value, dict):
        for name, item in value.items():
            _check_kind(f"{key}.{name}", item, default.get(name))
        return
    if isinstance(default, list) and isinstance(value, list):
        for item in value:
            _check_kind(key, item, default[0] if default else None)
        return
    accepted = {bool: (bool,), int: (int,), float: (int, float), str: (str,), list: (list,), dict: (dict,)}
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "keys"}
    kind = type(default)
    if not isinstance(value, accepted[kind]) or (isinstance(value, bool) and kind is not bool):
        raise RequestError(key, value, words[kind])
