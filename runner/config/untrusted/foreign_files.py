"""The allow-list of keys in files that a folder brings: questions, ``--config-dir``, a run's kept command line.

A person who starts the runner in a folder has typed the command and nothing else.  So what the files of that folder
may set is a list: the recipe, which has rules of its own, and of Hydra's keys those that say how many runs there are
and which values they have.  What runs programs, reads the environment, writes elsewhere or sends something is typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS
from runner.config.request.swept_values import params_as_typed
from runner.errors import RequestError, as_typed

TYPED = "nothing in a file that a folder brings: it is typed on the command line"

_GROUPS = {
    "hydra/launcher": ("fork_server", "joblib", "submitit_local", "submitit_slurm"),
    "hydra/sweeper": ("basic", "optuna"),
    "hydra/sweeper/sampler": None,
    "hydra/sweeper/pruner": None,
}
"""Groups of Hydra's of which such files may choose an option, and which; None for any, for each says what it is by a
target that has to be of the kind."""

_PACKAGES = (*OPEN, *CLOSED, *SECTIONS)

_NODE = re.compile(r"\$\{(\.*[A-Za-z_][\w.\[\]/-]*)\}")
_OPENING = re.compile(r"\$(?:[{$\0]|$)")
"""A dollar sign that begins an interpolation, or would with what may come to stand behind it; any other is a sign."""
_NOW = re.compile(r"\$\{now:[^${}]*\}")
_HYDRA_VALUES = (
    "hydra.job.num",
    "hydra.job.id",
    "hydra.job.name",
    "hydra.job.override_dirname",
    "hydra.runtime.choices.",
)
"""What of Hydra's part such files may refer to; others could be holding what was typed for nobody's eyes."""


def _anything(value: Any) -> str | None:
    return None


def _number(value: Any) -> str | None:
    return None if value is None or (isinstance(value, int | float) and not isinstance(value, bool)) else "a number"


def _word(value: Any) -> str | None:
    return None if re.fullmatch(r"[\w.-]+", str(value)) else "letters, digits, dots and dashes"


def _inside(value: Any) -> str | None:
    """A place to write below the working folder."""
    if value is None:
        return None
    text = _NOW.sub("now", str(value))
    known = re.sub(r"\$\{(hydra\.job\.\w+|hydra\.runtime\.choices\.\w+)\}", "job", text)
    path = PurePosixPath(known)
    bad = not isinstance(value, str) or path.is_absolute() or ".." in path.parts or known.startswith("~")
    return "a folder below the one that the runner is called from" if bad or "$" in known or "://" in known else None


def _storage(value: Any) -> str | None:
    """A file for a study below the working folder: a journal, or a database of SQLite without options."""
    words = str(value)
    return _inside(words.removeprefix("sqlite:///") if isinstance(value, str) and "?" not in words else value)


def _offline(value: Any) -> str | None:
    return None if value == "offline" else "offline: what is sent to a service is typed"


_HYDRA_KEYS: dict[str, Callable[[Any], str | None]] = {
    "hydra.mode": _word,
    "hydra.run.dir": _inside,
    "hydra.sweep.dir": _inside,
    "hydra.sweep.subdir": _inside,
    "hydra.job.name": _word,
    **{
        f"hydra.sweeper.{name}": _anything
        for name in (
            *("max_batch_size", "objectives", "direction", "constraints", "n_trials", "n_jobs", "study_name"),
            *("max_failure_rate", "stale_after", "custom_search_space", "confirm", "halving"),
        )
    },
    "hydra.sweeper.storage": _storage,
    "hydra.sweeper.params": lambda value: _screen_params(value),
    "hydra.sweeper.beside": lambda value: _screen_beside(value),
    **{
        f"hydra.launcher.{name}": _number
        for name in (
            *("n_jobs", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"),
            "array_parallelism",
        )
    },
}
"""Hydra's keys that such files may set -> what their value must be, in words, or None."""

_OWN_KEYS: dict[str, Callable[[Any], str | None]] = {
    "tracker.mode": _offline,
    "tracker.entity": lambda value: None if value is None else "null: to whom a tracker sends is typed",
    "data.cache_dir": _inside,
    "privacy.ledger_dir": _inside,
    "resume": lambda value: None if value is None else "null in a file: it is for the command line",
}
"""Keys of a run that say more than its recipe."""

_CHECKS = _HYDRA_KEYS | _OWN_KEYS

_WHOLE = ("hydra.sweeper.sampler", "hydra.sweeper.pruner")
"""Parts of a search, of which the search asks that they are what they should be."""

_CHOSEN_BEFORE = ("data.cache_dir", "privacy.ledger_dir")
"""Places that the command line kept in a run's folder may name: going on has to find what was begun."""


def screen_file(config: DictConfig | ListConfig, *, file: str, group: str, package: str | None) -> None:
    """Refuse a configuration file that sets something that it may not.

    Args:
        config: its content, nothing of it resolved.
        file: its name, for people.
        group: the config group that it lies in, such as ``model``; empty for none.
        package: of its header; None without one.

    Raises:
        RequestError: names the key and the file.
    """
    if package not in (None, "_global_", "_group_") and str(package).partition(".")[0] not in _PACKAGES:
        raise RequestError("@package", f"{package} in {file}", f"_global_, or one of {', '.join(_PACKAGES)}")
    if not isinstance(config, DictConfig):
        return  # Hydra's own refusal names the file
    plain: Any = OmegaConf.to_container(config, resolve=False)
    defaults = plain.pop("defaults", None)
    prefix = group.replace("/", ".") if package in (None, "_group_") else "" if package == "_global_" else str(package)
    try:
        for element in defaults if isinstance(defaults, list) else []:
            _screen_default(element, group)
        _screen(prefix, plain)
        screen_texts(prefix, plain)
    except RequestError as error:
        raise RequestError(error.key, f"{as_typed(error.got)} in {file}", error.expected) from error


def screen_lines(lines: Iterable[Any], *, file: str) -> None:
    """Refuse a line of the command line that a run's folder keeps, where nobody typed it.

    Raises:
        RequestError: names the key and the file.
    """
    for line in lines:
        if not isinstance(line, str) or not line.isprintable() or re.match(r"\+{0,2}[A-Za-z_][\w./]*=", line) is None:
            raise RequestError("resume", f"{line!s:.100} in {file}", "lines such as trainer.epochs=3")
        try:
            _screen_line(line, kept=True)
        except RequestError as error:
            raise RequestError(
                error.key, f"{as_typed(error.got)} in {file}", f"{error.expected}; typed again, it counts"
            ) from error


def screen_text(key: str, text: str) -> None:
    """Refuse an interpolation that asks for more than another key of the configuration.

    Raises:
        RequestError: the environment, say, is read where something is typed, and nowhere else.
    """
    rest = _NOW.sub("", text)
    for path in _NODE.findall(rest):
        flat = path.replace("[", ".").replace("]", "")
        reaches = flat.startswith(".") and key.startswith("hydra")
        if reaches or (flat.partition(".")[0] == "hydra" and not flat.startswith(_HYDRA_VALUES)):
            raise RequestError(key, text, "a value, or a key of the run as in ${data.name}")
    if _OPENING.search(_NODE.sub("\0", rest)):
        raise RequestError(key, text, "a value, or another key as in ${data.name}: what reads the environment is typed")


def screen_texts(path: str, value: Any) -> None:
    """Refuse texts in ``value``, which stands at the dotted ``path``, that ask for more than keys of the configuration.

    Raises:
        RequestError: names the key.
    """
    if isinstance(value, str):
        screen_text(path or "config", value)
    elif isinstance(value, bytes):
        raise RequestError(path, "bytes", "text, numbers, true, false or null")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            screen_text(path or "config", str(name))
            screen_texts(f"{path}.{name}".lstrip("."), item)
    elif isinstance(value, list):
        for item in value:
            screen_texts(path, item)


def _screen(path: str, value: Any) -> None:
    """The leaves of ``value``, which stands at the dotted ``path``."""
    check = _CHECKS.get(path)
    if check is not None:
        if (expected := check(value)) is not None:
            raise RequestError(path, value, expected)
    elif isinstance(value, Mapping) and not path.startswith(_WHOLE):
        for name, item in value.items():
            _screen(f"{path}.{name}".lstrip("."), item)
    elif path == "hydra" or (path.startswith("hydra.") and not path.startswith(_WHOLE)) or path in _PACKAGES:
        raise RequestError(path, value, TYPED)


def _screen_params(params: Any) -> str | None:
    if not isinstance(params, Mapping | None):
        return "a mapping of keys to values"
    for key, value in (params or {}).items():
        if re.fullmatch(r"[A-Za-z_][\w./]*", str(key)) is None:
            return f"keys as they are typed, which {key} is not"
        _screen_line(*params_as_typed({key: value}))
    return None


def _screen_beside(cells: Any) -> str | None:
    if not isinstance(cells, list | None) or not all(isinstance(cell, list) for cell in cells or []):
        return "a list of cells, each a list of overrides"
    for line in (line for cell in cells or [] for line in cell):
        _screen_line(str(line))
    return None


def _screen_line(line: str, *, kept: bool = False) -> None:
    """One override, of a cell or of an earlier command line."""
    try:
        override = OverridesParser.create().parse_override(line)
    except HydraException:
        screen_text(line.partition("=")[0].lstrip("+"), line.partition("=")[2])
        return  # refused with its reason where it is composed
    key = override.key_or_group
    if override.is_delete() or override.package is not None:
        raise RequestError(key, line, "key=value")
    if key.partition(".")[0].partition("/")[0] == "hydra":
        raise RequestError(key, line.partition("=")[2], TYPED)
    for value in _values(override):
        screen_texts(key, value)  # as it is read: Hydra's grammar has escapes
        for path, leaf in _leaves(key, value):
            check = None if kept and path in _CHOSEN_BEFORE else _OWN_KEYS.get(path)
            if check is not None and (expected := check(leaf)) is not None:
                raise RequestError(path, leaf, expected)


def _values(override: Override) -> Iterator[Any]:
    value = override.value()
    for item in value.list if isinstance(value, ChoiceSweep) else [value]:
        yield _plain(item)


def _plain(value: Any) -> Any:
    """A value of Hydra's grammar without the class of a quoted text."""
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(f"{path}.{name}", item)
    else:
        yield path, value


def _screen_default(element: Any, group: str) -> None:
    """One element of a defaults list: which file is taken, and where its content goes."""
    if element == "_self_":
        return
    pairs = element.items() if isinstance(element, Mapping) else [(element, None)]
    for entry, options in pairs:
        words = str(entry).split()
        name, _, package = words[-1].partition("@") if words else ("", "", "")
        got = f"{entry}: {as_typed(options)}" if isinstance(element, Mapping) else str(entry)
        if "$" in str(entry) or ".." in name.split("/"):
            raise RequestError("defaults", got, "the name of a group")
        target = package.removeprefix("_global_").removeprefix(".")
        if package and target and target.partition(".")[0] not in (*_PACKAGES, *RECIPES):
            raise RequestError("defaults", got, f"a place among {', '.join(_PACKAGES)}")
        chosen = options if isinstance(options, list) else [options]
        for option in chosen:
            if isinstance(option, str):
                screen_text("defaults", option)
                if ".." in option.split("/"):
                    raise RequestError("defaults", got, "the name of an option")
        path = name.lstrip("/") if name.startswith(("/", "hydra")) else f"{group}/{name}".lstrip("/")
        if path.partition("/")[0] != "hydra":
            continue
        if not isinstance(element, Mapping):  # the option itself
            path, _, option = path.rpartition("/")
            chosen = [option]
        allowed = _GROUPS.get(path, ())
        if allowed is not None and not all(isinstance(option, str) and option in allowed for option in chosen):
            raise RequestError(path, got, TYPED if not allowed else f"one of {', '.join(allowed)}")
