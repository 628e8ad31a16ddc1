"""The command line: ``python -m runner``, ``ml-train`` and ``recipe-runner``.

A request is composed and checked here, the whole grid of a sweep included, before Hydra makes a folder and before torch
is imported.  Hydra then composes it again, in its own order and with its own logging, and calls the job.  What is
wrong with a request ends as one line on standard error and exit code 2; what fails on the way as one line, exit
code 1 and a traceback in the run's ``run.log``.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from omegaconf import OmegaConf

from runner.api.composed_request import begin_request, check_request, print_notes
from runner.api.hydra_call import call_hydra, no_job
from runner.api.start_run import start_run
from runner.commands import COMMANDS, is_bare, unknown_command
from runner.commands.parser import Parser
from runner.config.compose import Composer
from runner.config.request.hydra_record import ROOT, source_flags
from runner.config.request.presets import added_to
from runner.config.request.request import Request
from runner.config.request.search_path import SEARCHPATH
from runner.config.words.expand_user import expand_user
from runner.config.words.help_text import help_text
from runner.config.words.override_lines import key_of, warn_repeated
from runner.config.words.shell_quoting import command_line, folder_line, resume_line
from runner.config.words.unknown_flag import A_FILE, in_place_of
from runner.environment.launchers import adopt_launch, is_first
from runner.errors import ExitCode, RequestError, RunError
from runner.internals.hydra_parts import flag_parser
from runner.processes.command_end import run_command
from runner.processes.keyboard_interrupt import interrupted
from runner.records.console import put


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code.

    0 done, 1 a run failed, 2 the request was wrong, 75 interrupted but resumable.
    """

    def act() -> int:
        adopt_launch()
        if is_first():
            return _main(list(sys.argv[1:] if argv is None else argv))
        from runner.execution.job import follow_runs

        return follow_runs()

    try:
        return run_command(act)
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
    root = args.config_name or ROOT
    if args.shell_completion:
        try:
            return call_hydra(argv, no_job)
        except RunError as error:
            raise RequestError("--shell-completion", " ".join(args.overrides), f"install=bash ({error})") from error
    if args.hydra_help:
        return call_hydra(["--hydra-help"], no_job)
    composer, lines = begin_request(args.overrides, multirun=args.multirun, config_dir=extra, root=root)
    if args.help or args.cfg or args.info:
        composed = composer.compose(lines)
        if args.package not in (None, "_global_") and OmegaConf.select(composed, args.package) is None:
            raise RequestError("--package", args.package, "a key of the configuration, such as trainer")
        if args.help:
            print_notes(composer.notes)
            print(help_text(composed, composer, {name: one.about for name, one in COMMANDS.items()}), end="")
            return ExitCode.DONE
        return call_hydra([*flags, *lines, *added_to(composer.parse(lines), composed)], no_job)
    request = check_request(composer, lines, multirun=args.multirun)
    if not request.multirun:
        code = _begun(request.run_dir, lambda: _run(composer, request, [*flags, *request.lines]))
        if code == ExitCode.INTERRUPTED and request.run_dir is not None:
            typed = [shlex.quote(line) for line in args.overrides if key_of(line) == SEARCHPATH]
            _print_resume_hint(command_line(source_flags(extra, root), [resume_line(request.run_dir), *typed]))
        return code
    # Hydra looks for `hydra.mode` in the root and on the command line only; a sweep's file or `seeds` may ask too.
    flags += [] if args.multirun else ["--multirun"]
    argv = [*flags, *(line for line in lines if line not in request.deferred)]
    code = _begun(request.sweep_dir, lambda: _sweep(composer, request, argv))
    if code == ExitCode.INTERRUPTED:
        typed = [shlex.quote(line) for line in args.overrides if key_of(line) != "hydra.sweep.dir"]
        asked = [*(["--multirun"] if args.multirun else []), *source_flags(extra, root)]
        _print_resume_hint(command_line(asked, [*typed, folder_line("hydra.sweep.dir", request.sweep_dir)]))
    return code


def _begun(folder: Path | None, act: Callable[[], int]) -> int:
    """What ``act`` returns; where it is interrupted before or between its runs, it can go on if ``folder`` is there."""
    try:
        return act()
    except (KeyboardInterrupt, Exception):
        if not interrupted() or folder is None or not folder.is_dir():
            raise
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _run(composer: Composer, request: Request, argv: Sequence[str]) -> int:
    """One run, in this process."""
    end = start_run(composer, request, argv)
    if end.attempt is not None:
        if end.attempt.error is not None:
            print(f"error: {end.attempt.error}", file=sys.stderr)
        if end.attempt.cut_short:
            print("interrupted", file=sys.stderr)
    return end.exit_code


def _sweep(composer: Composer, request: Request, argv: Sequence[str]) -> int:
    """Many runs, each in a process of its own."""
    from runner.api.start_sweep import start_sweep

    end = start_sweep(composer, request, argv, say=lambda text: put(sys.stdout, *text.split("\n")))
    if end.error is not None:
        print(f"error: {end.error}", file=sys.stderr)
    return end.exit_code


def _print_resume_hint(command: str) -> None:
    """Say, as it can be pasted into a shell, how the run or sweep that was interrupted goes on."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    print(f"goes on with{' the same launcher and' if launched else ''}: {command}", file=sys.stderr)


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
