"""The configuration that a run's folder keeps: plain values, whoever wrote them, checked against the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.config.load import CONSTANTS, load_config
from runner.config.schema import RunConfig
from runner.config.untrusted.foreign_files import screen_texts
from runner.config.untrusted.foreign_yaml import load_untrusted
from runner.config.words.override_lines import key_of
from runner.errors import RequestError

CONFIG_FILE = ".hydra/config.yaml"
OVERRIDES_FILE = ".hydra/overrides.yaml"


def read_values(folder: Path) -> RunConfig:
    """The typed configuration of the run in ``folder``.  Nothing is imported, called or read besides for it.

    Raises:
        RequestError: it is no configuration, or says more than values.
        OSError: there is none.
    """
    return load_config(_screened(folder), typed_keys=_typed(folder) & CONSTANTS)


def read_plain(folder: Path) -> dict[str, Any]:
    """The configuration of the run in ``folder`` as plain values, by group.

    Raises:
        RequestError: it is no configuration, or says more than values.
        OSError: there is none.
    """
    found: Any = OmegaConf.to_container(_screened(folder), resolve=True)
    return {str(key): value for key, value in found.items()}


def _screened(folder: Path) -> DictConfig:
    path = folder / CONFIG_FILE
    found = load_untrusted(path, "run")
    if not isinstance(found, DictConfig):
        raise RequestError("run", f"{path} (not a mapping)", "a configuration as a run leaves it")
    plain: Any = OmegaConf.to_container(found, resolve=False)
    try:
        screen_texts("", plain)
    except RequestError as error:
        raise RequestError(error.key, f"{error.got} in {path}", error.expected) from error
    return found


def _typed(folder: Path) -> frozenset[str]:
    """The keys that the run's command line named; none where it left none."""
    if not (folder / OVERRIDES_FILE).is_file():
        return frozenset()
    lines: Any = OmegaConf.to_container(load_untrusted(folder / OVERRIDES_FILE, "run"), resolve=False)
    return frozenset(key_of(line).lstrip("+") for line in lines if isinstance(line, str))
