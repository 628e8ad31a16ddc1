"""The command line: ``python -m runner``, ``ml-train`` and ``recipe-runner``.

A request is composed and checked here, the whole grid of a sweep included, before Hydra makes a folder and before torch
is imported.  Hydra then composes it again, in its own order and with its own logging, and calls the job.  What is
wrong with a request ends as one line on standard error and exit code 2; what fails on the way as one line, exit
code 1 and a traceback in the run's ``run.log``.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import secrets
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from runner.commands import COMMANDS, is_bare, unknown_command
from runner.commands.parser import Parser
from runner.config import store
from runner.config.compose import Composer
from runner.config.load import load_config, typed_keys
from runner.config.request.hydra_record import ROOT, source_flags
from runner.config.request.presets import added_to
from runner.config.request.request import Request, check_run, read_request
from runner.config.request.resume_request import expand_resume, resumed_folder
from runner.config.request.search_path import SEARCHPATH, searched, with_last_search_path
from runner.config.schema import TrackerConfig
from runner.config.untrusted.targets import allow_working_folder
from runner.config.words.expand_user import expand_user, expand_user_in_lines
from runner.config.words.help_text import help_text
from runner.config.words.override_lines import key_of, warn_repeated
from runner.config.words.shell_quoting import command_line, folder_line, resume_line
from runner.config.words.unknown_flag import A_FILE, in_place_of
from runner.config.words.wandb_variables import ignored_variables
from runner.disk.links import outward_link
from runner.disk.rollback import FolderSnapshot
from runner.environment.accelerate_settings import asked_lines
from runner.environment.address_space import require_room_for_torch
from runner.environment.launchers import adopt_launch, is_first
from runner.errors import ExitCode, RequestError, RunError
from runner.internals.hydra_parts import flag_parser
from runner.processes.command_end import answer
from runner.processes.keyboard_interrupt import interrupted
from runner.records.plugins_used import require_plugins
from runner.records.run_lock import lock_sweep
from runner.run.attempt import LOG_FILE, Attempt, attempt_run, record_failure
from runner.sweep.random_trials import draw_beforehand
from runner.sweep.resume import refuse_other_recipe
from runner.sweep.selection_file import is_drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code.

    0 done, 1 a run failed, 2 the request was wrong, 75 interrupted but resumable.
    """

    def act() -> int:
        adopt_launch()
        if is_first():
            return _main(list(sys.argv[1:] if argv is None else argv))
        from runner.run.job import run_rank
        from runner.training.distributed.launch import follow

        return follow(run_rank)

    try:
        return answer(act)
    finally:
        # Only a request that was right has started the group, and imported torch with it.
        if launch := sys.modules.get("runner.training.distributed.launch"):
            launch.release_followers()


def _main(argv: list[str]) -> int:
    if "--version" in argv:
        print(", ".join(f"{name} {_version(name)}" for name in ("recipe-runner", "hydra-core", "torch")))
        return ExitCode.DONE
    argv = [re.sub("(?<=^--config-dir=)~.*", lambda path: expand_user(path[0]), word) for word in argv]
    args = _parse_flags(argv)
    warn_repeated(args.overrides, swept=True)
    flags = [argument for argument in argv if argument not in args.overrides]
    extra = None if args.config_dir is None else Path(args.config_dir).absolute()
    if extra is not None and not extra.is_dir():
        raise RequestError("--config-dir", extra, "a folder that exists")
    root = args.config_name or ROOT
    lines = expand_user_in_lines(with_last_search_path(args.overrides))
    lines = expand_resume(lines, multirun=args.multirun, config_dir=extra, root=root)
    if args.shell_completion:
        try:
            return _call_hydra(argv, _no_job)
        except RunError as error:
            raise RequestError("--shell-completion", " ".join(args.overrides), f"install=bash ({error})") from error
    if args.hydra_help:
        return _call_hydra(["--hydra-help"], _no_job)
    require_plugins(resumed_folder(args.overrides), "resume")
    composer = Composer(caller=Path.cwd(), extra=extra, search=searched(lines), root=root)
    lines += _asked_by_accelerate(composer, lines)
    if args.help or args.cfg or args.info:
        composed = composer.compose(lines)
        if args.package not in (None, "_global_") and OmegaConf.select(composed, args.package) is None:
            raise RequestError("--package", args.package, "a key of the configuration, such as trainer")
        if args.help:
            _print_notes(composer.notes)
            print(help_text(composed, composer, {name: one.about for name, one in COMMANDS.items()}), end="")
            return ExitCode.DONE
        return _call_hydra([*flags, *lines, *added_to(composer.parse(lines), composed)], _no_job)
    request = read_request(composer, lines, multirun=args.multirun, check=check_run, check_folder=refuse_other_recipe)
    _refuse_outward_links(request)
    require_room_for_torch()
    about_wandb = ignored_variables(request.configs[0].tracker, os.environ)
    _print_notes([*composer.notes, *([about_wandb] if about_wandb else [])])
    if not request.multirun:
        code = _begun(request.run_dir, lambda: _run(composer, request, [*flags, *request.lines]))
        if code == ExitCode.INTERRUPTED and request.run_dir is not None:
            typed = [shlex.quote(line) for line in args.overrides if key_of(line) == SEARCHPATH]
            _tell_how_to_go_on(command_line(source_flags(extra, root), [resume_line(request.run_dir), *typed]))
        return code
    # Hydra looks for `hydra.mode` in the root and on the command line only; a sweep's file or `seeds` may ask too.
    flags += [] if args.multirun else ["--multirun"]
    argv = [*flags, *(line for line in lines if line not in request.deferred)]
    code = _begun(request.sweep_dir, lambda: _sweep(composer, request, argv))
    if code == ExitCode.INTERRUPTED:
        typed = [shlex.quote(line) for line in args.overrides if key_of(line) != "hydra.sweep.dir"]
        asked = [*(["--multirun"] if args.multirun else []), *source_flags(extra, root)]
        _tell_how_to_go_on(command_line(asked, [*typed, folder_line("hydra.sweep.dir", request.sweep_dir)]))
    return code


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _begun(folder: Path | None, act: Callable[[], int]) -> int:
    """What ``act`` returns; where it is interrupted before or between its runs, it can go on if ``folder`` is there."""
    try:
        return act()
    except (KeyboardInterrupt, Exception):
        if not interrupted() or folder is None or not folder.is_dir():
            raise
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _tell_how_to_go_on(command: str) -> None:
    """Say, as it can be pasted into a shell, how the run or sweep that was interrupted goes on."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    print(f"goes on with{' the same launcher and' if launched else ''}: {command}", file=sys.stderr)


def _asked_by_accelerate(composer: Composer, lines: Sequence[str]) -> list[str]:
    """What ``accelerate launch`` was told and nobody has typed for the run, nor put into its grid."""
    settled = {key_of(line) for line in lines}
    if asked := asked_lines(os.environ, settled):
        single = [
            line
            for line, override in zip(lines, composer.parse(lines), strict=True)
            if not override.is_sweep_override()
        ]
        params = composer.compose(single).hydra.sweeper.get("params") or {}
        asked = asked_lines(os.environ, settled | {str(key) for key in params})
    return asked


def _refuse_outward_links(request: Request) -> None:
    """Refuse a folder that is there already, and in which a link would have the run write somewhere else."""
    for key, folder in (("hydra.run.dir", request.run_dir), ("hydra.sweep.dir", request.sweep_dir)):
        if folder is not None and folder.is_dir() and (link := outward_link(folder)):
            raise RequestError(key, f"{link} (a link that leads out of {folder})", "a folder without such links")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Read the flags with Hydra's own parser; raises ``RequestError`` where it, or Hydra later, would refuse."""
    parser = Parser(
        "",
        parents=[flag_parser()],
        add_help=False,
        usage="%(prog)s [--multirun] [--cfg job] [--config-dir FOLDER] [--help] [key=value ...]",
        meaning=in_place_of,
    )
    args = parser.read(argv)
    for word in filter(is_bare, args.overrides):
        raise _misplaced(word, argv)
    if args.experimental_rerun is not None:
        raise RequestError(
            "--experimental-rerun",
            args.experimental_rerun,
            f"the overrides in {args.experimental_rerun}/.hydra/overrides.yaml with hydra.run.dir=FOLDER",
        )
    if args.config_path is not None:
        raise RequestError("--config-path", args.config_path, "--config-dir, which adds a folder to the shipped one")
    chosen = [
        f"--{name.replace('_', '-')}"
        for name in ("help", "hydra_help", "run", "multirun", "cfg", "info", "shell_completion")
        if getattr(args, name)
    ]
    if len(chosen) > 1:
        raise RequestError(chosen[-1], " with ".join(chosen), "one of them at a time")
    if args.resolve and not (args.cfg or args.help):
        raise RequestError("--resolve", "no --cfg", "--cfg job --resolve")
    return args


def _misplaced(word: str, argv: Sequence[str]) -> RequestError:
    """The refusal of the bare ``word``: a command that does not come first, a file, or a key without its value."""
    if word in COMMANDS:
        rest = [other for other in argv if other != word]
        return RequestError(word, "a command behind other words", command_line([word, *rest], []))
    if word.endswith((".yaml", ".yml")):
        return RequestError(word, "a file", str(A_FILE))
    return unknown_command(word)


def _run(composer: Composer, request: Request, argv: Sequence[str]) -> int:
    """One run, in this process."""
    assert request.run_dir is not None
    before = FolderSnapshot(request.run_dir, own=(".hydra", LOG_FILE))
    ended: list[Attempt] = []

    def job(composed: DictConfig) -> None:
        whole: Any = HydraConfig.instance().cfg
        run_dir = Path(whole.hydra.runtime.output_dir)
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        defaults = composer.option_defaults(whole)
        config = load_config(composed, defaults, typed_keys=typed_keys(whole.hydra))
        attempt = attempt_run(config, plain, run_dir)
        ended.append(attempt)
        if attempt.exit_code == ExitCode.WRONG_REQUEST:
            before.restore(run_dir)
        elif attempt.error is not None:
            record_failure(run_dir, attempt)

    # Hydra composes everything again, and by then it is another microsecond
    place = QuotedString(str(request.run_dir), Quote.double).with_quotes()
    code = _call_hydra([*argv, f"hydra.run.dir={place}"], job)
    if code != ExitCode.DONE or not ended:
        return code
    if ended[0].error is not None:
        print(f"error: {ended[0].error}", file=sys.stderr)
    if ended[0].cut_short:
        print("interrupted", file=sys.stderr)
    return ended[0].exit_code


def _sweep(composer: Composer, request: Request, argv: Sequence[str]) -> int:
    """Many runs, each in a process of its own."""
    from runner.search.cell_context import find_context
    from runner.search.sweeper import SearchSweeper
    from runner.sweep.driver import SweepDriver
    from runner.sweep.grid import GridSweeper
    from runner.sweep.launcher import ForkServerLauncher

    for plugin in (GridSweeper, SearchSweeper, ForkServerLauncher):  # which ``conf/hydra`` names
        Plugins.instance().register(plugin)
    sweep = SweepDriver(composer=composer, request=request, check=check_run, find_context=find_context)
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
            called = _call_hydra([*argv, *settled], sweep, "hydra.sweep.dir")
        except (RequestError, RunError):
            if sweep.ended:  # what was found and spent by then is told all the same
                sweep.report(ExitCode.FAILED)
            raise
        code = sweep.report(called)
        if not sweep.folder.exists():
            return code
        if is_drawn(sweep.folder):
            if sweep.ended:  # a worker of a search may have found nothing left to run
                _renew_statements(sweep.folder)
        elif sweep.begun or code != ExitCode.INTERRUPTED:
            _write_report(sweep.folder, request.configs[0].tracker, check=called == ExitCode.DONE)
        return code
    finally:
        sweep.close()
        alone.close()


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


def _write_report(sweep_dir: Path, tracker: TrackerConfig, *, check: bool) -> None:
    """End a sweep with its verdict; a report that fails is told, and leaves what the sweep found as it is."""
    from runner.report.tracked import track_report
    from runner.sweep.finish import finish_sweep

    try:
        report = finish_sweep(sweep_dir, check=check)
    except Exception as error:
        log = sweep_dir / "report_failure.log"
        log.write_text(traceback.format_exc(), encoding="utf-8")
        print(f"error: no report: {' '.join(str(error).split()) or type(error).__name__} (see {log})", file=sys.stderr)
    else:
        print(f"verdict: {report.verdict}")
        print(f"report: {report.path}")
        track_report(report, sweep_dir, tracker, warn=lambda note: print(f"warning: {note}", file=sys.stderr))


def _renew_statements(sweep_dir: Path) -> None:
    """Settle, at the end of a sweep without a report, which of its runs may be published."""
    from runner.report.cells import read_sweep
    from runner.report.statements import read_statements, write_statements

    try:
        sweep = read_sweep(sweep_dir)
        write_statements(sweep, read_statements(sweep))
    except (RequestError, RunError) as error:
        print(f"error: no privacy statements: {error}", file=sys.stderr)


def _call_hydra(argv: Sequence[str], task: Callable[[DictConfig], Any], folder: str = "hydra.run.dir") -> int:
    """Let Hydra act on ``argv``; returns its exit code, 0 when all jobs were called.

    Raises ``RequestError`` when it cannot write the folder that the key ``folder`` names, or a launcher refuses it,
    and ``RunError`` for any other failure of Hydra's own or of a plug-in; the jobs let none out.
    """
    conf = str(store.shipped("conf"))
    allow_working_folder()
    run = hydra.main(config_path=conf, config_name="config", execution_whitelist=store.whitelist())(task)
    try:
        with _command_line(argv):
            run()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise RunError(str(end.code)) from end  # words instead of a number mean failure
        return end.code or ExitCode.DONE
    except (RequestError, RunError):
        raise
    except OSError as error:
        got = error.filename or str(error)
        raise RequestError(folder, got, f"a folder that can be written ({error.strerror})") from error
    except Exception as error:
        raise RunError(f"{type(error).__name__}: {error}") from error
    return ExitCode.DONE


@contextlib.contextmanager
def _command_line(argv: Sequence[str]) -> Iterator[None]:
    """Make ``argv`` what Hydra reads, and its exceptions come out instead of ending the process with a traceback."""
    before, report, complain = sys.argv, os.environ.get("HYDRA_FULL_ERROR"), logging.raiseExceptions
    # A log that cannot be written, on a full disk, would print a traceback for each of its lines.
    logging.raiseExceptions = False
    sys.argv = [before[0], *argv]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv, logging.raiseExceptions = before, complain
        if report is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = report


def _no_job(composed: DictConfig) -> None:
    """For flags that print something and call no job."""
