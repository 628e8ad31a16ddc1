"""Hydra's record in a run's folder: the sources, paths and flags that its command line depended on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from runner.config.store import sweep_files
from runner.config.untrusted.foreign_yaml import load_plain
from runner.config.untrusted.run_config import CONFIG_FILE
from runner.config.words.shell_quoting import command_line, resume_line
from runner.errors import RequestError

HYDRA_FILE = ".hydra/hydra.yaml"
ROOT = "config"
"""The configuration that everything starts from, unless ``--config-name`` names another."""

_PATHS = ("data.root", "model.weights", "data.cache_dir", "privacy.ledger_dir")
"""Keys that may hold a path, which counts from the folder that a command is typed in."""
_READ = ("data.root", "model.weights")
"""Those of them that have to be there."""


@dataclass(frozen=True, kw_only=True)
class HydraRecord:
    """What is known of the command that began a run."""

    caller: Path | None
    """The folder that it was typed in."""
    config_dir: Path | None
    """Its ``--config-dir``."""
    searched: tuple[str, ...]
    """Places of its ``hydra.searchpath``."""
    root: str
    """Its ``--config-name``, without ``.yaml``."""
    choices: Mapping[str, Any]
    """Group -> option."""
    question: str | None
    """The option of the group ``sweep``, of which the run is a cell."""
    values: Mapping[str, Any]
    """The composed configuration."""


def read_hydra_record(folder: Path) -> HydraRecord:
    """What Hydra left in the ``folder`` of a run; nothing is known of a run that was not begun by the command line.

    Raises:
        RequestError: a file there holds something else than plain values.
    """
    hydra = _mapping(_load(folder / HYDRA_FILE), "hydra")
    runtime, job = _mapping(hydra, "runtime"), _mapping(hydra, "job")
    own = [path for _, path in _places(runtime, "command-line")]
    choices = _mapping(runtime, "choices")
    begun = HydraRecord(
        caller=Path(str(runtime["cwd"])) if "cwd" in runtime else None,
        config_dir=Path(own[0]) if own else None,
        searched=tuple(f"{schema}://{path}" for schema, path in _places(runtime, "hydra.searchpath")),
        root=str(job.get("config_name") or ROOT),
        choices=choices,
        question=None if (chosen := choices.get("sweep")) is None else str(chosen),
        values=_load(folder / CONFIG_FILE),
    )
    for text in (begun.caller, begun.config_dir, *begun.searched, begun.root, begun.question):
        if not str(text).isprintable():  # it will be shown, and may have come with the folder
            raise RequestError("resume", f"{folder}, whose {HYDRA_FILE} holds {str(text)!r}", "names that can be shown")
    return begun


def require_sources(
    folder: Path, begun: HydraRecord, *, config_dir: Path | None, root: str, searched: bool = False
) -> None:
    """Refuse to go on in ``folder`` without the files of the user's that the run was composed from.

    They are typed again and not taken from the record, which may have come with the folder.  ``config_dir``, ``root``
    and ``searched`` are what is typed now: ``--config-dir``, ``--config-name``, and whether there is a search path.

    Raises:
        RequestError: says what has to be typed.
    """
    flags = source_flags(config_dir or begun.config_dir, begun.root if root == ROOT else root)
    places = "[" + ",".join(QuotedString(place, Quote.single).with_quotes() for place in begun.searched) + "]"
    search = [shlex.quote(f"hydra.searchpath={places}")] if begun.searched else []
    whole = command_line(flags, [resume_line(folder.resolve()), *search])
    if begun.searched and not searched:
        raise RequestError("resume", f"{folder}, which was begun with hydra.searchpath={places}", whole)
    if config_dir is None and begun.config_dir is not None:
        raise RequestError("resume", f"{folder}, which was begun with --config-dir {begun.config_dir}", whole)
    if begun.root not in (ROOT, root):
        raise RequestError("resume", f"{folder}, which was begun with --config-name {begun.root}", whole)
    here = Path.cwd()
    if begun.question is None or begun.question in sweep_files(here) or begun.caller in (None, here):
        return
    if config_dir is not None and (config_dir / "sweep" / f"{begun.question}.yaml").is_file():
        return
    file = f"sweeps/{begun.question}.yaml"
    expected = f"the same in {begun.caller}, where it was begun, or a copy of {file} of that folder here"
    raise RequestError("resume", f"{folder}, a cell of sweep={begun.question} in {here}, which has no {file}", expected)


def source_flags(config_dir: Path | None, root: str) -> list[str]:
    """The flags that name the user's own configuration."""
    own = [] if config_dir is None else ["--config-dir", str(config_dir)]
    return own if root == ROOT else [*own, "--config-name", root]


def paths_from_there(begun: HydraRecord, replaced: Sequence[str]) -> list[str]:
    """Overrides for the paths that count from another folder than this one, but for the keys ``replaced`` by now."""
    if begun.caller is None or begun.caller == Path.cwd():
        return []
    lines = []
    for key in _PATHS:
        value = _mapping(begun.values, key.partition(".")[0]).get(key.partition(".")[2])
        if key in replaced or not isinstance(value, str) or not value or value.startswith(("~", "/")):
            continue
        there = begun.caller / value
        if key in _READ and not there.exists():
            continue  # DEFAULT, or what moved with the folder
        lines.append(f"{key}={QuotedString(str(there), Quote.double).with_quotes()}")
    return lines


def _places(runtime: Mapping[str, Any], provider: str) -> list[tuple[str, str]]:
    """Kind and path of each source of the configuration that a ``provider`` of this name gave."""
    sources = runtime.get("config_sources")
    return [
        (str(source.get("schema")), str(source.get("path")))
        for source in (sources if isinstance(sources, list) else [])
        if isinstance(source, Mapping) and str(source.get("provider")).startswith(provider)
    ]


def _load(path: Path) -> Mapping[str, Any]:
    try:
        found = load_plain(path, "resume")
    except OSError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
