"""Presets that choose options of other groups, and what gives way where another option is typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from runner.config.groups import OPEN, RECIPES, yaml_key
from runner.config.request.exclusive_keys import Replaced, replaced_by
from runner.errors import as_typed
from runner.internals.hydra_parts import read_option

_PRESETS = ("hardware", "trainer")
"""Groups whose options may choose one of another group, in the order in which they are read: the later one counts."""


class Presets:
    """What options choose and set besides their own group, by their files."""

    def __init__(self, loader: Any, root: str, searchpath: Sequence[str]) -> None:
        """``loader`` is Hydra's, ``root`` where it starts, ``searchpath`` the overrides by which it looks elsewhere."""
        self._where = loader, root, [OverridesParser.create().parse_override(line) for line in searchpath]
        self._read = cache(self._read_once)

    def apply(
        self,
        config: DictConfig,
        overrides: Sequence[Override],
        load: Callable[[Sequence[str]], DictConfig],
        own: Callable[[], Mapping[str, Any]],
    ) -> tuple[DictConfig, list[str]]:
        """``config`` without what gives way to what is typed, and in words what that was.

        Args:
            config: as composed from ``overrides`` alone.
            overrides: what is typed.
            load: composes.
            own: gives, for an open group, what its option's own YAML says.

        Raises:
            RequestError: two rivals are typed, of which one would lose without a word.
        """
        typed = {
            key: str(override.input_line).partition("=")[2]
            for override in overrides
            if not override.is_hydra_override()
            for key in _leaves(override.key_or_group, override.value())
        }
        choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
        lines = [str(override.input_line) for override in overrides]
        replaced = [*self._chosen_for(typed, choices), *self._made_for_another(config, typed, choices, own)]
        if added := [one.line for one in replaced if one.line]:
            config = load([*lines, *added])
        # what a preset brings may be a rival in its turn
        replaced += (rivals := replaced_by(config, typed))
        if rivals:
            config = load([*lines, *added, *(one.line for one in rivals)])
        return config, [one.words for one in replaced]

    def _read_once(self, path: str) -> ConfigResult | None:
        """The file of an option, such as ``trainer/dp``; None where there is none."""
        loader, root, searchpath = self._where
        return read_option(loader, root, searchpath, path)

    def _chosen_for(self, typed: Mapping[str, str], choices: Mapping[str, str]) -> Iterator[Replaced]:
        """Options that a typed preset chooses and a recipe, or a preset that is read earlier, chose otherwise."""
        wanted: dict[str, tuple[str, str]] = {}
        presets = [group for group in _PRESETS if group in typed]
        if not presets:
            return
        for group in presets:
            by = f"{group}={typed[group]}"
            for other, option in self._choices(f"{group}/{typed[group]}").items():
                if other in wanted and wanted[other][0] != option and other not in typed:
                    words = f"{by} takes the place of {other}={wanted[other][0]}, which {wanted[other][1]} chooses"
                    yield Replaced(line="", words=words)
                wanted[other] = option, by
        for other, (option, by) in wanted.items():
            if other not in typed and choices.get(other) != option:
                yield Replaced.value(other, choices[other], option, by)

    def _made_for_another(
        self,
        config: DictConfig,
        typed: Mapping[str, str],
        choices: Mapping[str, str],
        own: Callable[[], Mapping[str, Any]],
    ) -> Iterator[Replaced]:
        """Arguments that a recipe sets for the option that it chooses, and that the typed option does not have."""
        for recipe in RECIPES:
            name = choices.get(recipe, "None")
            if name == "None":
                continue
            meant = self._choices(f"{recipe}/{name}")
            for group in OPEN:
                if group not in typed or meant.get(group, typed[group]) == typed[group]:
                    continue
                known = {*own()[group], *(yaml_key(field.name) for field in fields(OPEN[group]))}
                values: Any = OmegaConf.to_container(config[group], resolve=False)
                by, where = f"{group}={typed[group]}", f"{recipe}={name} sets for {group}={meant[group]}"
                for key in self._sets(f"{recipe}/{name}", group):
                    path = f"{group}.{key}"
                    if path in typed or key not in values:
                        continue
                    text = f"{path}={as_typed(values[key])}"
                    if key in known:
                        yield Replaced(line="", words=f"{text}, which {where}, counts for {by} too")
                    else:
                        yield Replaced(line=f"~{path}", words=f"{by} takes the place of {text}, which {where}")

    def _choices(self, path: str) -> dict[str, str]:
        """Group -> option of another group that the file at ``path`` chooses."""
        found: dict[str, str] = {}
        result = self._read(path)
        for element in (result.defaults_list or []) if result is not None else []:
            if isinstance(element, ConfigDefault) and element.path not in (None, "_self_"):
                found |= self._choices(f"{path.rpartition('/')[0]}/{element.path}")
            elif isinstance(element, GroupDefault) and element.override and isinstance(element.value, str):
                found[str(element.group).lstrip("/")] = element.value
        return found

    def _sets(self, path: str, group: str) -> list[str]:
        """The keys of ``group`` that the file at ``path``, of the package of the root, sets."""
        result = self._read(path)
        content: Any = {} if result is None else result.config
        section = content.get(group)
        return [str(key) for key in section] if isinstance(section, DictConfig) else []


def _leaves(path: str, value: object) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{getattr(key, 'text', key)}", item)
    else:
        yield path


def added_to(overrides: Sequence[Override], config: DictConfig) -> tuple[str, ...]:
    """The overrides that were added to those typed, for ``config``, which was composed from them."""
    typed = sum(not override.is_hydra_override() for override in overrides)
    return tuple(config.hydra.overrides.task)[typed:]
