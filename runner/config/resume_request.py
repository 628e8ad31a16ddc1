"""``resume=DIR``: the command line of an earlier run, taken from its folder, and going on there."""

from __future__ import annotations

from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from runner.config.brought import screen_lines
from runner.config.brought_yaml import load_plain
from runner.config.errors import RequestError
from runner.config.rivals import rivals_of
from runner.config.typed_lines import key_of

OVERRIDES_FILE = ".hydra/overrides.yaml"


def expand_resume(lines: list[str], *, multirun: bool) -> list[str]:
    """``lines`` with ``resume=DIR`` replaced by what was typed for the run in DIR; the other lines have the last word.

    Whether what they change may be changed is not asked here: the run refuses another recipe than its checkpoint's.

    Raises:
        RequestError: DIR holds no run, or ``resume`` does not go with the rest of the line.
    """
    asked = [line for line in lines if key_of(line) == "resume"]
    if not asked or asked[-1] == "resume=null":
        return lines
    if asked[-1] in ("resume", "resume="):
        raise RequestError("resume", "nothing", "the folder of a run")
    folder = Path(asked[-1].partition("=")[2].strip("'\""))
    typed = [line for line in lines if line not in asked]
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
    typed_keys = {key_of(line) for line in typed}
    replaced = typed_keys.union(*(rivals_of(key) for key in typed_keys))
    # what gave way to what was typed gives way again
    kept = [line for line in earlier if key_of(str(line)) not in replaced and not str(line).startswith("~")]
    screen_lines(kept, file=str(folder / OVERRIDES_FILE))
    quoted = QuotedString(str(folder.absolute()), Quote.double).with_quotes()
    # RUN: what was a cell of a sweep goes on by itself
    return [*kept, *typed, f"hydra.run.dir={quoted}", "hydra.mode=RUN"]
