"""From what was typed to a request that may start: resumed, composed and checked, and told what was replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.config.compose import Composer, line_of
from runner.config.request.hydra_record import ROOT
from runner.config.request.request import Request, check_run, read_request
from runner.config.request.resume_request import expand_resume, resumed_folder
from runner.config.request.search_path import searched, with_last_search_path
from runner.config.words.expand_user import expand_user_in_lines
from runner.config.words.override_lines import key_of
from runner.config.words.wandb_variables import ignored_variables
from runner.disk.links import outward_link
from runner.environment.accelerate_settings import accelerate_overrides
from runner.environment.address_space import require_room_for_torch
from runner.errors import RequestError
from runner.records.plugins_used import require_plugins
from runner.sweeping.earlier_cells import refuse_other_config


def begin_request(
    typed: list[str], *, multirun: bool, config_dir: Path | None = None, root: str = ROOT
) -> tuple[Composer, list[str]]:
    """Who composes the overrides ``typed``, and the overrides: those of a run that is resumed are put in.

    ``config_dir`` and ``root`` are what ``--config-dir`` and ``--config-name`` say.

    Raises:
        RequestError: the folder of a run that is resumed, or a folder of configuration, is not there.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise RequestError("--config-dir", config_dir, "a folder that exists")
    lines = expand_user_in_lines(with_last_search_path(typed))
    lines = expand_resume(lines, multirun=multirun, config_dir=config_dir, root=root)
    require_plugins(resumed_folder(typed), "resume")
    composer = Composer(caller=Path.cwd(), extra=config_dir, search=searched(lines), root=root)
    return composer, [line_of(one) for one in composer.parse([*lines, *accelerate_request(composer, lines)])]


def check_request(composer: Composer, lines: Sequence[str], *, multirun: bool) -> Request:
    """The run or the sweep that ``lines`` ask for, checked; says on standard error what was replaced or ignored.

    Raises:
        RequestError: it cannot be run as typed.
    """
    request = read_request(composer, lines, multirun=multirun, check=check_run, check_folder=refuse_other_config)
    _refuse_outward_links(request)
    require_room_for_torch()
    about_wandb = ignored_variables(request.configs[0].tracker, os.environ)
    print_notes([*composer.notes, *([about_wandb] if about_wandb else [])])
    return request


def print_notes(notes: Iterable[str]) -> None:
    """Say on standard error what was replaced or ignored."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def accelerate_request(composer: Composer, lines: Sequence[str]) -> list[str]:
    """What ``accelerate launch`` was told and nobody has typed for the run, nor put into its grid."""
    settled = {key_of(line) for line in lines}
    if asked := accelerate_overrides(os.environ, settled):
        single = [
            line
            for line, override in zip(lines, composer.parse(lines), strict=True)
            if not override.is_sweep_override()
        ]
        params = composer.compose(single).hydra.sweeper.get("params") or {}
        asked = accelerate_overrides(os.environ, settled | {str(key) for key in params})
    return asked


def _refuse_outward_links(request: Request) -> None:
    """Refuse a folder that is there already, and in which a link would have the run write somewhere else."""
    for key, folder in (("hydra.run.dir", request.run_dir), ("hydra.sweep.dir", request.sweep_dir)):
        if folder is not None and folder.is_dir() and (link := outward_link(folder)):
            raise RequestError(key, f"{link} (a link that leads out of {folder})", "a folder without such links")
