"""What a call from Python asks for, composed and checked as on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.api.composed_request import begin_request, check_request
from runner.api.overrides import read_values
from runner.config.compose import Composer
from runner.config.request.hydra_record import source_flags
from runner.config.request.request import Request
from runner.config.words.override_lines import warn_repeated
from runner.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Call:
    """A run or a sweep that may start."""

    composer: Composer
    request: Request
    lines: tuple[str, ...]
    """Its overrides, those of a run that is resumed put in."""
    flags: tuple[str, ...]
    """The flags that name the user's own configuration."""


def read_call(overrides: Sequence[str], values: Mapping[str, Any], *, multirun: bool) -> Call:
    """The run, or with ``multirun`` the sweep, that a call asks for; the arguments are those of ``run``.

    Raises:
        RequestError: it cannot be run as typed.
    """
    typed, extra, root = read_values(overrides, values)
    warn_repeated(typed)
    composer, lines = begin_request(typed, multirun=multirun, config_dir=extra, root=root)
    if not multirun:
        for override in composer.parse(lines):
            if override.is_sweep_override():
                got = str(override.input_line).partition("=")[2]
                raise RequestError(override.key_or_group, got, "one value: sweep() runs each, or [a,b] for a list")
    request = check_request(composer, lines, multirun=multirun)
    if request.multirun and not multirun:
        raise RequestError("run()", " ".join(typed), "one run: sweep() takes what asks for several")
    return Call(composer=composer, request=request, lines=tuple(lines), flags=tuple(source_flags(extra, root)))
