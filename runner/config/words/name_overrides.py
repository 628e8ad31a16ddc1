"""Refuses ``model.name=...`` and the like, which would rename a part and not choose it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from omegaconf import DictConfig

from runner.errors import RequestError

_NAMED = ("data", "model", "optimizer", "scheduler", "task", "trainer", "tracker")
_LOOKED_UP = ("timm", "torchvision")
"""Options of ``model`` whose name chooses the architecture."""


def refuse_name_overrides(
    config: DictConfig, own: Mapping[str, Mapping[str, Any]], typed: Set[str], options: Callable[[str], Sequence[str]]
) -> None:
    """Refuse the name of a part in the place of the option's own.

    A part of one's own (``_target_`` typed) is named at will, and so are data, unless by the name of other data.

    Args:
        config: composed, with Hydra's part.
        own: group -> what its option's own YAML says; empty where nothing else had a say.
        typed: the keys of the command line.
        options: the options of a group.

    Raises:
        RequestError: says what would choose the part.
    """
    for group in _NAMED:
        choice, name = str(config.hydra.runtime.choices.get(group)), config[group].get("name")
        if name in (choice, own.get(group, {}).get("name", choice)) or f"{group}._target_" in typed:
            continue
        if f"{group}.name" not in typed and group not in own:
            continue  # an option of one's own may have another name than its file
        if (group == "model" and choice in _LOOKED_UP) or (group == "data" and name not in options(group)):
            continue
        if name in options(group):
            expected = f"{group}={name}"
        elif group == "model":
            expected = f"model=timm model.name={name} or model=torchvision model.name={name}"
        else:
            expected = f"{group}=NAME, one of {', '.join(options(group))}"
        raise RequestError(f"{group}.name", name, f"{expected} ({group}.name alone is what records say, of {choice})")
