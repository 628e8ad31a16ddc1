"""Many runs, each in a process of its own: cells of a grid or trials of a search, and the report at their end."""

from __future__ import annotations

import contextlib
import secrets
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins

from runner.api.hydra_call import call_hydra
from runner.config.compose import Composer
from runner.config.request.request import Request, check_run
from runner.config.schema import TrackerConfig
from runner.config.words.override_lines import key_of
from runner.errors import ExitCode, RequestError, RunError
from runner.records.run_lock import lock_sweep
from runner.search.cell_context import find_context
from runner.search.sweeper import SearchSweeper
from runner.sweeping.driver import SweepDriver
from runner.sweeping.grid import GridSweeper
from runner.sweeping.launcher import ForkServerLauncher
from runner.sweeping.random_trials import draw_beforehand
from runner.sweeping.selection_file import is_drawn

if TYPE_CHECKING:
    from runner.sweeping.finish import Look


@dataclass(frozen=True, kw_only=True)
class SweepEnd:
    """How a sweep ended."""

    exit_code: int
    """One of ``ExitCode``, unless a callback of the user's ended Hydra with another."""
    error: str | None = None
    """Which of its cells failed, and why, or why there is no report, in one line."""


def start_sweep(composer: Composer, request: Request, argv: Sequence[str], say: Callable[[str], None]) -> SweepEnd:
    """Run ``request``; ``argv`` are the flags and overrides that it was made of.

    What a person wants to know at the end, the table and the verdict, goes to ``say``.

    Raises:
        RequestError: its cells would spend too much, or its folder cannot be written or belongs to another sweep.
        RunError: a plug-in or a callback failed.
    """
    for plugin in (GridSweeper, SearchSweeper, ForkServerLauncher):  # which ``conf/hydra`` names
        Plugins.instance().register(plugin)
    sweep = SweepDriver(
        composer=composer,
        request=request,
        check=check_run,
        find_context=find_context,
        write_report=_renew_report,
        look=_look,
        say=say,
    )
    # What has been settled here is settled for Hydra too, which composes everything again.
    settled = [f"hydra.sweep.dir={QuotedString(str(request.sweep_dir), Quote.double).with_quotes()}"]
    if request.seeds is not None:
        settled.append(f"hydra.sweeper.seeds={list(request.seeds)}")
    settled += _fresh_results(request, argv)
    alone = contextlib.ExitStack()
    try:
        sweep.admit()
        alone.enter_context(_alone(request))
        draw_beforehand(request)
        try:
            called = call_hydra([*argv, *settled], sweep, "hydra.sweep.dir", request.sweep_dir)
        except (RequestError, RunError):
            if sweep.ended:  # what was found and spent by then is told all the same
                sweep.report(ExitCode.FAILED)
                if sweep.failure:
                    print(f"error: {sweep.failure}", file=sys.stderr)
            raise
        code, missing = sweep.report(called), None
        if not sweep.folder.exists():
            return SweepEnd(exit_code=code)
        if is_drawn(sweep.folder):
            if sweep.ended:  # a worker of a search may have found nothing left to run
                missing = _renew_statements(sweep.folder)
        elif sweep.begun or code != ExitCode.INTERRUPTED:
            missing = _write_report(sweep.folder, request.configs[0].tracker, say, check=called == ExitCode.DONE)
        if missing is not None and code == ExitCode.DONE:
            code = ExitCode.FAILED
        return SweepEnd(exit_code=code, error="; ".join(filter(None, (sweep.failure, missing))) or None)
    finally:
        sweep.close()
        alone.close()


def _finish() -> Any:
    """What judges a sweep and writes its report, which loads scipy and matplotlib."""
    from runner.sweeping import finish

    return finish


def _look(sweep_dir: Path, folders: Sequence[str]) -> Look:
    """What the results of some cells say of the sweep's question; raises as ``look_at_results`` does."""
    found: Look = _finish().look_at_results(sweep_dir, folders)
    return found


def _renew_report(sweep_dir: Path) -> None:
    """Write what can be said while cells are under way; raises as ``finish_sweep`` does."""
    _finish().finish_sweep(sweep_dir, check=False)


def _alone(request: Request) -> contextlib.AbstractContextManager[None]:
    """One grid at a time in a folder; the workers of a search share theirs."""
    if request.cells is None or request.sweep_dir is None:
        return contextlib.nullcontext()
    drawn = any(config.privacy.selection == "random_stopping" for config in request.configs)
    return lock_sweep(request.sweep_dir, private=drawn)


def _fresh_results(request: Request, argv: Sequence[str]) -> list[str]:
    """Have submitit, which unpickles whatever lies where it awaits a result, await it where nobody has been before."""
    key = "hydra.launcher.submitit_folder"
    if request.hydra is None or "submitit_folder" not in request.hydra.launcher or key in map(key_of, argv):
        return []
    place = f"{request.sweep_dir}/.submitit/{secrets.token_hex(8)}/%j"
    return [f"{key}={QuotedString(place, Quote.double).with_quotes()}"]


def _write_report(sweep_dir: Path, tracker: TrackerConfig, say: Callable[[str], None], *, check: bool) -> str | None:
    """End a sweep with its verdict; why there is none, where the report fails, which harms nothing else."""
    finish = _finish()
    try:
        report = finish.finish_sweep(sweep_dir, check=check)
    except Exception as error:
        log = sweep_dir / "report_failure.log"
        told = " ".join(str(error).split()) or type(error).__name__
        try:
            log.write_text(traceback.format_exc(), encoding="utf-8")
            told += f" (see {log})"
        except OSError:  # for want of room, most likely, which is what the report met
            log.unlink(missing_ok=True)
        return f"no report: {told}"
    say(report.answer)
    say(f"report: {report.path}")
    finish.track_report(report, sweep_dir, tracker, warn=lambda note: print(f"warning: {note}", file=sys.stderr))
    return None


def _renew_statements(sweep_dir: Path) -> str | None:
    """Settle, at the end of a sweep without a report, which of its runs may be published; why not, where that fails."""
    try:
        _finish().renew_statements(sweep_dir)
    except (RequestError, RunError) as error:
        return f"no privacy statements: {error}"
    return None
