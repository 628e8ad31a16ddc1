"""Composes a request with Hydra before anything else runs, and turns every failure into one ``RequestError``.

The happy path is Hydra's own composition.  Only when that fails is the request taken apart, override by override, to
find the one at fault: Hydra's messages name the symptom, take several lines and suggest ``+key``, which the typed root
would refuse as well.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import (
    BooleanNode,
    DictConfig,
    EnumNode,
    FloatNode,
    IntegerNode,
    ListConfig,
    LiteralNode,
    OmegaConf,
    StringNode,
    UnionNode,
    open_dict,
)
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from runner.config import store
from runner.config.groups import OPEN, RECIPES, set_beyond_schema
from runner.config.load import load_config, typed_keys
from runner.config.plugins import installed_plugins
from runner.config.request.expanded_overrides import FAILURES, expand, is_there
from runner.config.request.output_folders import named_folder, refuse_unrecordable, run_folder
from runner.config.request.presets import Presets
from runner.config.request.search_path import require_places
from runner.config.request.shadowed_options import ShadowedOptions
from runner.config.rules.choices import Choices, choices_of_schema
from runner.config.schema import RunConfig
from runner.config.untrusted import screened_source
from runner.config.words.name_overrides import refuse_name_overrides
from runner.config.words.override_lines import key_of, refuse_undecoded
from runner.config.words.synonyms import synonym_of_option
from runner.config.words.unknown_key import nearest_key, unknown_key
from runner.errors import RequestError, nearest
from runner.internals.hydra_parts import loader_with
from runner.internals.omegaconf_nodes import element_type, may_be_null, node_of

_KINDS = {
    BooleanNode: "true or false",
    IntegerNode: "a whole number",
    FloatNode: "a number",
    UnionNode: "a whole number, or auto",
    StringNode: "text",
    DictConfig: "a mapping of its keys",
}


class Composer:
    """Composes overrides over ``conf/`` (and a user's ``--config-dir``), the sweeps and the typed root."""

    def __init__(
        self,
        *,
        caller: Path,
        extra: Path | None = None,
        search: Sequence[str] = (),
        root: str = "config",
        writes: bool = True,
    ) -> None:
        """``caller`` is the folder that the runner is called from, ``extra`` the value of ``--config-dir``.

        ``search`` is what ``hydra.searchpath`` names (``searched``), ``root`` the file without ``.yaml`` from which
        everything starts (``--config-name``), ``writes`` whether output folders must be such as can be written.

        Raises ``RequestError`` for a ``caller`` whose name Hydra cannot keep in the configuration.
        """
        refuse_unrecordable("hydra.runtime.cwd", caller)
        require_places(search)
        screened_source.install()
        self._broken_sweeps = store.register(caller)
        self._search = list(search)
        folders = [] if extra is None else [extra]
        folders += [Path(place.removeprefix("file://")) for place in search if not place.startswith("pkg://")]
        self._added_sweeps = {file.stem for folder in folders for file in (folder / "sweep").glob("*.yaml")}
        self._hidden_sweeps = store.hidden_sweeps(caller, folders)
        self._shadowed = ShadowedOptions(folders)
        self._caller = caller
        self._sweeps = store.sweep_files(caller).keys()
        self.root = root
        self._writes = writes
        with initialize_config_dir(config_dir=str(store.shipped("conf")), job_name="runner"):
            self._loader = GlobalHydra.instance().config_loader()
        if extra is not None:  # as Hydra does: the file that everything starts from may lie there too
            self._loader = loader_with(str(store.shipped("conf")), str(extra))
        self._presets = Presets(self._loader, root, self._searchpath())
        self.notes: dict[str, None] = dict.fromkeys(installed_plugins().broken.values())
        """What was replaced by what is typed, and what is not used, in words."""
        self._groups: list[str] = []
        self._options: dict[str, list[str]] = {}
        self._reference: dict[tuple[tuple[str, str], ...], DictConfig] = {}

    def parse(self, lines: Iterable[str]) -> list[Override]:
        """The overrides as Hydra reads them, ``glob(...)`` and ``++`` put in terms of what they come to.

        Raises ``RequestError`` for a bare word, for bad syntax, for an option that its group does not have, and for
        ``~``, ``@`` and most uses of ``+``: nearly every key that there is has a default.
        """
        groups = self.groups()
        parsed = expand([_parse(line) for line in lines], groups, self.options, self._load)
        chosen = {override.key_or_group: override for override in parsed if override.key_or_group in groups}
        for override in parsed:
            self._screen(override, groups, chosen)
        return parsed

    def compose(self, lines: Sequence[str]) -> DictConfig:
        """The configuration of one run, with Hydra's own under ``hydra``: what is typed has replaced its rivals.

        Raises ``RequestError`` for whatever keeps it from being composed.
        """
        overrides = self.parse(lines)
        try:
            config = self._load([line_of(override) for override in overrides])
        except FAILURES as error:
            raise _refusal(error) or self._diagnose(overrides, error) from error
        config, words = self._presets.apply(config, overrides, self._load, partial(self.option_defaults, config))
        self.notes |= dict.fromkeys([*words, *self._shadowed.notes(config.hydra.runtime.choices)])
        return config

    def load(self, config: DictConfig, *, number: int | None = None) -> RunConfig:
        """The typed form of a composed configuration; ``number`` is that of the cell in a sweep.

        Its folder is put where Hydra would, under ``hydra.runtime.output_dir``.

        Raises ``RequestError`` as ``load_config`` does, and for an output folder that cannot be named or made.
        """
        if config.hydra.job.chdir:
            expected = "false: a run stays where it is called, from where the paths count that are typed"
            raise RequestError("hydra.job.chdir", config.hydra.job.chdir, expected)
        with open_dict(config.hydra):
            config.hydra.job.num = number or 0
            config.hydra.job.id = str(number or 0)
            config.hydra.runtime.output_dir = run_folder(config, in_sweep=number is not None, writable=self._writes)
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)
        try:
            own, typed = self.option_defaults(config), typed_keys(config.hydra)
            refuse_name_overrides(config, own, typed, self.options)
            return load_config(config, own, typed_keys=typed)
        finally:
            HydraConfig.instance().cfg = before

    def hidden_question(self, config: DictConfig) -> Path | None:
        """The file of the question that ``config`` asks, if it took the place of a shipped one; None otherwise."""
        return self._hidden_sweeps.get(str(config.hydra.runtime.choices.get("sweep")))

    def sweep_dir(self, config: DictConfig) -> Path:
        """Folder of the sweep that ``config`` is composed for; ``RequestError`` when it cannot be named or made."""
        return Path(named_folder(config, "hydra.sweep.dir", writable=self._writes))

    def require(self, override: Override, config: DictConfig) -> None:
        """Raise ``RequestError`` when the key of ``override`` is neither a group nor in ``config``."""
        key, groups = override.key_or_group, self.groups()
        if key not in groups and "/" not in key and OmegaConf.select(config, key, default=_ABSENT) is _ABSENT:
            raise unknown_key(key, _typed(override), config, groups)

    def groups(self) -> list[str]:
        """Every config group that has options, Hydra's own apart."""
        if not self._groups:
            self._groups = [name for name in self._loader.list_groups("") if name != "hydra"]
        return self._groups

    def options(self, group: str) -> list[str]:
        """The options of ``group``, or of a subgroup such as ``hydra/sweeper``; empty when there is no such group."""
        if group not in self._options:
            extra = (self.root, self._searchpath()) if self._search else ()
            found = self._loader.get_group_options(group, ObjectType.CONFIG, *extra)
            if group == "sweep":
                # Hydra's store belongs to the process: another composer may have put the sweeps of its caller there.
                found = [name for name in found if name in self._sweeps or name in self._added_sweeps]
            self._options[group] = found
        return self._options[group]

    def option_defaults(self, config: DictConfig) -> dict[str, Any]:
        """Open group -> what the chosen option's own YAML says; empty where nothing else had a say.

        ``config`` holds Hydra's part of a composed configuration.  What an experiment, a sweep or the command line
        sets is left out, so that its kind can be compared with the option's own.
        """
        choices, typed = config.hydra.runtime.choices, typed_keys(config.hydra)
        if not any(map(set_beyond_schema, typed)) and all(choices.get(group) is None for group in RECIPES):
            return {}
        chosen = tuple((group, choices[group]) for group in OPEN)
        if chosen not in self._reference:
            self._reference[chosen] = self._load([f"{group}={option}" for group, option in chosen])
        return {group: OmegaConf.to_container(self._reference[chosen][group], resolve=False) for group in OPEN}

    def _load(self, lines: Sequence[str]) -> DictConfig:
        return self._loader.load_configuration(self.root, [*lines, *self._searchpath()], RunMode.RUN)

    def _searchpath(self) -> list[str]:
        """Where Hydra looks besides ``conf/``, as the override that its loader takes from a primary config."""
        quoted = ",".join(QuotedString(place, Quote.double).with_quotes() for place in self._search)
        return [f"hydra.searchpath=[{quoted}]"] if self._search else []

    def _screen(self, override: Override, groups: list[str], chosen: Mapping[str, Override]) -> None:
        key, line = override.key_or_group, line_of(override)
        if key == "hydra":
            raise RequestError(key, _typed(override), "one of its keys, such as hydra.run.dir=FOLDER")
        if key.startswith("hydra."):
            return
        options = self.options(key) if key in groups or key.startswith("hydra/") else []
        if override.package is not None:
            raise RequestError(key, line, f"{key}=... without @: a group has one place")
        if override.is_delete():
            raise RequestError(key, line, f"{key}=... with a value: nothing can be taken out")
        if options:
            if override.is_add() or override.is_force_add():
                raise RequestError(key, line, f"{line.lstrip('+')} without +: the group is there already")
            for value in _values(override, several=key in RECIPES):
                self._check_option(key, value, options)
        elif key in RECIPES:
            raise RequestError(key, _typed(override), f"null: there is no {key} here")
        elif key.startswith("hydra/"):
            parent = key.rpartition("/")[0]
            known = [f"{parent}/{name}" for name in self._loader.list_groups(parent)]
            raise RequestError(key, line, "a group of Hydra's", nearest=nearest(key, known))
        elif override.is_add() or override.is_force_add():
            self._check_addition(override, groups, chosen)

    def _check_addition(self, override: Override, groups: list[str], chosen: Mapping[str, Override]) -> None:
        """Allow ``+model.drop_rate=0.1``, an argument of the part that its YAML does not list, or a null."""
        key, line = override.key_or_group, line_of(override)
        owner = chosen.get(key.partition(".")[0])
        swept = owner is not None and owner.is_sweep_override()
        config = self._load([] if owner is None or swept else [line_of(owner)])
        if swept and override.is_force_add() and is_there(config, key):
            return
        # each option has keys of its own: where several are asked for, the cells are looked at one by one
        found = _ABSENT if swept else OmegaConf.select(config, key, default=_ABSENT)
        if found is None:
            return  # Hydra lets a null be added to: +profile=true is profile=true
        if found is not _ABSENT:
            raise RequestError(key, line, f"{line.lstrip('+')} without +: the key is there already")
        group, _, option = key.partition(".")
        typo = nearest_key(key, config, cutoff=0.8) is not None  # init_weights, say, is none of weights
        if group not in OPEN or not option.isidentifier() or typo:
            raise unknown_key(key, _typed(override), config, groups)

    def _check_option(self, group: str, value: object, options: list[str]) -> None:
        nullable = group in RECIPES or group.startswith("hydra/")
        if (value is None and nullable) or (isinstance(value, str) and value in options):
            return
        if group == "sweep" and value in self._broken_sweeps:
            raise self._broken_sweeps[str(value)]
        names = [*options, "null"] if nullable else options
        meant = synonym_of_option(group, str(value), options) or nearest(str(value), options)
        expected = "; ".join([f"one of {', '.join(names)}", *installed_plugins().broken.values()])
        raise RequestError(group, value, expected, nearest=meant)

    def _diagnose(self, overrides: list[Override], error: Exception) -> RequestError:
        """The override that made composition fail, or the file."""
        for override in overrides:
            if override.is_sweep_override():
                return RequestError(
                    override.key_or_group,
                    _typed(override),
                    "one value; add --multirun to run each, or [a,b] for a list",
                )
        groups = self.groups()
        choices = [o for o in overrides if o.key_or_group in groups or "/" in o.key_or_group]
        try:
            config = self._load([line_of(o) for o in choices])
        except FAILURES as cause:
            return _refusal(cause) or self._key_of_a_file(cause) or _composition_error(cause)
        for override in overrides:
            if override in choices:
                continue
            try:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
            except FAILURES as cause:
                return _override_error(override, config, groups, cause)
        return _composition_error(error)

    def _key_of_a_file(self, error: Exception) -> RequestError | None:
        """For a key that a file sets and that does not exist; None for anything else."""
        file, key = re.search(r"In '([^']+)'", str(error)), re.search(r"full_key: (\S+)", str(error))
        if file is None or key is None or not re.search(r"Key '[^']+' (is )?not in ", str(error)):
            return None
        return unknown_key(key[1], f"a key of the file {file[1]}.yaml", self._load([]), self.groups())


_ABSENT = object()


def _parse(line: str) -> Override:
    if line.startswith("="):
        raise RequestError(line, "a value without a key", "key=value")
    key, equals, value = key_of(line), *line.partition("=")[1:]
    refuse_undecoded(key, value)
    try:
        return OverridesParser.create().parse_override(line)
    except HydraException as error:
        if not equals:
            raise RequestError(line, "a bare word", "key=value, such as trainer=dp") from error
        if not value.isascii():
            expected = f"quotes around what is not plain ASCII, such as \"{key}='{value}'\""
            raise RequestError(key or line, value, expected) from error
        reason = str(error).splitlines()[0]
        expected = f"a value that Hydra can read, quoted where it must be ({reason})"
        raise RequestError(key or line, value, expected) from error


def line_of(override: Override) -> str:
    """The override as typed."""
    return str(override.input_line)


def _typed(override: Override) -> str:
    """The value as typed."""
    return line_of(override).partition("=")[2]


def _values(override: Override, *, several: bool) -> list[object]:
    """The options that an override of a group names: one, or those of a sweep, or where ``several`` may be, a list."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [item.text if isinstance(item, QuotedString) else item for item in value.list]
    return list(value) if several and isinstance(value, list) else [value]


def _override_error(override: Override, config: DictConfig, groups: list[str], cause: Exception) -> RequestError:
    key, got = override.key_or_group, _typed(override)
    if isinstance(cause, OmegaConfBaseException) and (cause.full_key or "").startswith(key):
        key = (cause.full_key or key).partition("[")[0]
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return unknown_key(key, got, config, groups)
    parent, _, last = key.rpartition(".")
    owner = OmegaConf.select(config, parent, default=None) if parent else config
    node = node_of(owner, last) if isinstance(owner, DictConfig) else None
    if node is None:
        return unknown_key(key, got, config, groups)
    if isinstance(node, ListConfig):
        expected = {float: "a list of numbers", str: "a list of words"}.get(element_type(node), "a list")
    elif isinstance(node, LiteralNode):
        return Choices(typing.get_args(node.ref_type)).refusal(key, got)
    elif isinstance(node, EnumNode):
        expected = f"one of {', '.join(node.enum_type.__members__)}"
    else:
        expected = next((words for kind, words in _KINDS.items() if isinstance(node, kind)), _first_line(cause))
    return RequestError(key, got, f"{expected} or null" if may_be_null(node) else expected)


def _composition_error(error: Exception) -> RequestError:
    """For what lies in a file rather than in an override."""
    text = str(error)
    if isinstance(error, RecursionError):
        return RequestError(
            "defaults", "a list that leads back to its own file", "a configuration that can be composed"
        )
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return RequestError(f"{mark.name}:{mark.line + 1}", error.problem or "bad YAML", "valid YAML")
    if root := re.match(r"Cannot find primary config '([^']+)'", text):
        return RequestError("--config-name", root[1], "config, or a file without .yaml in the folder of --config-dir")
    file = re.search(r"In '([^']+)'", text)
    full_key = re.search(r"full_key: (\S+)", text)
    place = f"the file {file[1]}.yaml" if file else "the configuration"
    lines = re.sub(r"^In '[^']+': (\w+ raised while composing config:)?\s*", "", text).splitlines()
    summary = lines[0].rstrip(".") if lines else type(error).__name__
    key = full_key[1] if full_key else (file[1] if file else "config")
    cause = error.__cause__ or error.__context__  # Hydra raises its own in the handler, without a cause
    if isinstance(cause, OmegaConfBaseException) and (choices := choices_of_schema().get(key)) is not None:
        return choices.refusal(key, cause.value, place=f" in {place}")
    return RequestError(key, f"{summary} in {place}", "a configuration that can be composed")


def _refusal(error: BaseException) -> RequestError | None:
    """What a file was refused for, which Hydra may have wrapped."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RequestError):
        cause = cause.__cause__
    return cause


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
