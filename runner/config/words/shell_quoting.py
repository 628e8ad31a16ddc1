"""Overrides quoted for a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from runner.config.untrusted.trusted_packages import TRUSTED_VARIABLE


def shell_line(line: str) -> str:
    """The override ``line``, quoted for Hydra where it cannot read it as it stands, and for the shell."""
    key, equals, value = line.partition("=")
    try:
        OverridesParser.create().parse_override(line)
    except HydraException:
        line = f"{key}{equals}{QuotedString(value, Quote.single).with_quotes()}"
    return shlex.quote(line)


def folder_line(key: str, folder: object) -> str:
    """``key=folder`` for a shell: the text of the path and nothing else, whatever characters it has."""
    text = QuotedString(str(folder), Quote.single).with_quotes()
    plain = f"{key}={folder}"
    return plain if shlex.quote(plain) == plain and _is_text(plain, str(folder)) else shlex.quote(f"{key}={text}")


def resume_line(folder: Path) -> str:
    """``resume=folder`` for a shell; what stands behind the sign is a path, and nothing of it Hydra's grammar."""
    return shlex.quote(f"resume={folder}")


def _is_text(line: str, text: str) -> bool:
    """Whether Hydra reads ``line`` as the text and not as a number, say, or a list."""
    try:
        return OverridesParser.create().parse_override(line).value() == text
    except HydraException:
        return False


def command_line(flags: Sequence[str], lines: Sequence[str]) -> str:
    """What a person types in a shell for this program with ``flags``, and with ``lines``, which are quoted already.

    Targets of the user's own that the environment allows stand before it.
    """
    allowed = os.environ.get(TRUSTED_VARIABLE)
    before = [f"{TRUSTED_VARIABLE}={shlex.quote(allowed)}"] if allowed else []
    return " ".join([*before, *_program(), *map(shlex.quote, flags), *lines])


def _program() -> list[str]:
    """The words that start this program as it was started."""
    name = Path(sys.argv[0]).name
    if name in ("ml-train", "recipe-runner"):
        return [name if shutil.which(name) else shlex.quote(sys.argv[0])]
    found = shutil.which("python")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return ["python", "-m", "runner"]
    return [shlex.quote(sys.executable), "-m", "runner"]
