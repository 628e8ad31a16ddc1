"""``glob(...)`` and ``++`` of Hydra's grammar, put in terms of what they come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.errors import RequestError

FAILURES = (
    HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError, TypeError, RecursionError
)  # fmt: skip
"""What Hydra raises where something cannot be composed."""

_ABSENT = object()


def expand(
    overrides: Sequence[Override],
    groups: Sequence[str],
    options: Callable[[str], list[str]],
    load: Callable[[Sequence[str]], DictConfig],
) -> list[Override]:
    """``overrides`` with the options that ``glob(...)`` names in its place, and without ``++`` where that is possible.

    ``++key=value`` is ``key=value`` where the key is there, else ``+key=value``.  It stays where several options of the
    key's group are asked for, for each of them has keys of its own.

    Args:
        overrides: as Hydra reads them.
        groups: the config groups, Hydra's own apart.
        options: gives the options of a group.
        load: composes overrides.

    Raises:
        RequestError: a glob that is not of a group's options, or fits none.
    """
    listed = [_list_options(one, groups, options) if isinstance(one.value(), Glob) else one for one in overrides]
    if not any(one.is_force_add() for one in listed):
        return listed
    choices = [one for one in listed if one.key_or_group in groups or one.key_or_group.startswith("hydra/")]
    swept = {one.key_or_group for one in choices if one.is_sweep_override()}
    try:
        config = load([str(one.input_line) for one in choices if not one.is_sweep_override()])
    except FAILURES:
        return listed  # an option is wrong, which is said where it is composed
    return [
        _without_force_add(one, config)
        if one.is_force_add() and one not in choices and one.key_or_group.partition(".")[0] not in swept
        else one
        for one in listed
    ]


def is_there(config: DictConfig, key: str) -> bool:
    """Whether ``config`` has the dotted ``key``, be its value missing."""
    found: Any = OmegaConf.select(config, key, default=_ABSENT, throw_on_resolution_failure=False)
    return found is not _ABSENT


def _list_options(override: Override, groups: Sequence[str], options: Callable[[str], list[str]]) -> Override:
    key, pattern = override.key_or_group, str(override.input_line).partition("=")[2]
    if key not in groups and not key.startswith("hydra/"):
        raise RequestError(key, pattern, "values: glob(...) names options of a group, as in model=glob(resnet*)")
    known = options(key)
    glob: Any = override.value()
    if not (found := glob.filter(known)):
        raise RequestError(key, pattern, f"a pattern that fits one of {', '.join(known)}")
    return _parse(f"{override.get_key_element()}={','.join(found)}")


def _without_force_add(override: Override, config: DictConfig) -> Override:
    line = str(override.input_line)
    return _parse(line.lstrip("+") if is_there(config, override.key_or_group) else line.removeprefix("+"))


def _parse(line: str) -> Override:
    return OverridesParser.create().parse_override(line)
