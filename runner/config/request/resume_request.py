"""``resume=DIR``: the command line of an earlier run, taken from its folder, and going on there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from runner.config.request.exclusive_keys import exclusive_with
from runner.config.request.hydra_record import ROOT, paths_from_there, read_hydra_record, require_sources
from runner.config.request.search_path import SEARCHPATH
from runner.config.untrusted.foreign_files import screen_lines
from runner.config.untrusted.foreign_yaml import load_plain
from runner.config.words.expand_user import expand_user
from runner.config.words.override_lines import key_of
from runner.errors import RequestError

OVERRIDES_FILE = ".hydra/overrides.yaml"

_ARGUMENT_LEFT_OUT = re.compile(r"~[a-z_]+\.[\w.]+")
"""As ``presets`` writes it."""


def expand_resume(lines: list[str], *, multirun: bool, config_dir: Path | None = None, root: str = ROOT) -> list[str]:
    """``lines`` with ``resume=DIR`` replaced by what was typed for the run in DIR; the other lines have the last word.

    Whether what they change may be changed is not asked here: the run refuses another recipe than its checkpoint's.
    Paths that the run was begun with count from the folder that it was begun in.  ``config_dir`` and ``root`` are what
    ``--config-dir`` and ``--config-name`` say.

    Raises:
        RequestError: DIR holds no run, ``resume`` does not go with the rest of the line, or files of the user's that
            the run was composed from are not named.
    """
    folder = resumed_folder(lines)
    if folder is None:
        return lines
    typed = [line for line in lines if key_of(line) != "resume"]
    if multirun:
        raise RequestError("resume", f"{folder} with --multirun", "one run, without --multirun")
    for line in typed:
        if key_of(line) in ("hydra.run.dir", "hydra.mode"):
            raise RequestError(key_of(line), line, f"nothing besides resume={folder}, which says where the run goes on")
    try:
        earlier = load_plain(folder / OVERRIDES_FILE, "resume")
    except OSError as error:
        raise RequestError("resume", folder, f"the folder of a run, with its {OVERRIDES_FILE}") from error
    if not isinstance(earlier, list):
        raise RequestError("resume", folder, f"the folder of a run; its {OVERRIDES_FILE} is not a list")
    begun = read_hydra_record(folder)
    searched = any(key_of(line) == SEARCHPATH for line in typed)
    require_sources(folder, begun, config_dir=config_dir, root=root, searched=searched)
    moved = paths_from_there(begun, [key_of(line) for line in typed])
    typed_keys = {key_of(line) for line in [*typed, *moved]}
    replaced = typed_keys.union(*(exclusive_with(key) for key in typed_keys))
    # arguments that gave way to a typed option give way again
    kept = [
        line for line in earlier if key_of(str(line)) not in replaced and not _ARGUMENT_LEFT_OUT.fullmatch(str(line))
    ]
    kept += moved
    screen_lines(kept, file=str(folder / OVERRIDES_FILE))
    quoted = QuotedString(str(folder.absolute()), Quote.double).with_quotes()
    # RUN: what was a cell of a sweep goes on by itself
    return [*kept, *typed, f"hydra.run.dir={quoted}", "hydra.mode=RUN"]


def resumed_folder(lines: Sequence[str]) -> Path | None:
    """The folder that ``resume=DIR`` among ``lines`` names; None without one.

    Raises:
        RequestError: it names nothing.
    """
    asked = [line for line in lines if key_of(line) == "resume"]
    if not asked or asked[-1] == "resume=null":
        return None
    if asked[-1] in ("resume", "resume="):
        raise RequestError("resume", "nothing", "the folder of a run")
    return Path(expand_user(_as_path(asked[-1])))


def _as_path(line: str) -> str:
    """What ``resume=...`` names: a path as it stands, which quotes of Hydra's grammar may surround."""
    text = line.partition("=")[2]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        with contextlib.suppress(HydraException):
            value = OverridesParser.create().parse_override(line).value()
            return value.text if isinstance(value, QuotedString) else str(value)
    return text
