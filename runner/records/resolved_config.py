"""The configuration that a run leaves behind, with resolvers of its process replaced by their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from runner.config.request.resume_request import OVERRIDES_FILE
from runner.config.untrusted.foreign_files import screen_text, screen_texts
from runner.config.untrusted.run_config import CONFIG_FILE
from runner.disk.files import write_text
from runner.errors import RequestError


def save_resolved_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Put what typed resolvers stood for in their place, in the files that Hydra has just left in a run's ``folder``.

    Whoever reads the folder later resolves nothing but keys of the configuration; so a run for which
    ``data.root='${oc.env:PHOTOS}'`` was typed goes on and can be used, in whatever environment.

    Args:
        folder: of the run that begins.
        values: its configuration, resolved.
    """
    path, typed = folder / CONFIG_FILE, folder / OVERRIDES_FILE
    if path.is_file() and _asks(OmegaConf.load(path)):
        write_text(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))
    if typed.is_file():
        lines: Any = OmegaConf.to_container(OmegaConf.load(typed), resolve=False)
        kept = [_resolved(line, values) for line in lines]
        if kept != lines:
            write_text(typed, yaml.safe_dump(kept, allow_unicode=True))


def _asks(config: Any) -> bool:
    """Whether ``config`` says more than values."""
    try:
        screen_texts("", OmegaConf.to_container(config, resolve=False))
    except RequestError:
        return True
    return False


def _resolved(line: str, values: Mapping[str, Any]) -> str:
    """The override ``line`` with the value that it gave, if it asked for more than other keys."""
    key, _, text = line.partition("=")
    try:
        screen_text(key, text)
    except RequestError:
        value: Any = values
        for name in key.lstrip("+").split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            return f"{key}={QuotedString(value, Quote.double).with_quotes()}"
        if isinstance(value, int | float):
            return f"{key}={str(value).lower()}"
    return line
