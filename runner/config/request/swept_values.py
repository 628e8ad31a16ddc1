"""``hydra.sweeper.params`` of a file as overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, ListConfig, OmegaConf

from runner.errors import as_typed
from runner.internals.omegaconf_nodes import node_of

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
"""Words that Hydra's grammar reads as they are, whatever they are values of."""


def params_as_typed(params: Mapping[str, Any], config: DictConfig | None = None) -> list[str]:
    """The overrides of ``params``: text as it stands, null and numbers as YAML has them, and a list as its values.

    Where the key itself holds a list in ``config``, a list without lists in it is one value.
    """
    return [f"{key!s}={_typed(value, holds_list=_holds_list(config, str(key)))}" for key, value in params.items()]


def _typed(value: Any, *, holds_list: bool) -> str:
    if not isinstance(value, list) or not value:
        return value if isinstance(value, str) else as_typed(value)
    if holds_list and not any(isinstance(item, list | None) for item in value):
        return _one(value)
    return ",".join(map(_one, value))


def _one(value: Any) -> str:
    """One value of a list; what is text there is no expression."""
    if isinstance(value, list):
        return f"[{','.join(map(_one, value))}]"
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in ("null", "true", "false", "nan")):
        return QuotedString(value, Quote.single).with_quotes()
    return as_typed(value)


def _holds_list(config: DictConfig | None, key: str) -> bool:
    section, _, last = key.rpartition(".")
    node = OmegaConf.select(config, section) if config is not None and section else config
    return isinstance(node, DictConfig) and isinstance(node_of(node, last), ListConfig)
