"""``python -m runner plan [--json FILE] [--no-probe] [--advise] [overrides]``: what would be, without running it.

Exit codes: 0 done, 1 planning failed, 2 the request was wrong, which is answered before torch is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.commands.json_file import refuse_unwritable, write_json_file
from runner.commands.parser import Parser
from runner.config.compose import Composer
from runner.config.request.request import Request, check_run, read_request
from runner.config.request.search_path import searched, with_last_search_path
from runner.config.words.expand_user import expand_user, expand_user_in_lines
from runner.config.words.override_lines import key_of, warn_repeated
from runner.config.words.unknown_flag import in_place_of
from runner.environment.address_space import require_room_for_torch
from runner.errors import ExitCode, RequestError
from runner.forecast.bookkeeper import bookkeeper
from runner.forecast.describe import describe
from runner.records.forecast_file import save_forecast
from runner.training.garbage_collection import collection_paused


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code."""
    return _parser().run(argv, _main)


def _parser() -> Parser:
    parser = Parser(
        "plan",
        about="Say what a run or a sweep would be, what it would take and what is likely to go wrong, without"
        " running it.",
        failed="planning failed",
        meaning=in_place_of,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for python -m runner")
    parser.add_argument("--json", metavar="FILE", help="write the plan as JSON too; - prints it instead of the text")
    parser.add_argument("--no-probe", action="store_true", help="make no step: estimates within a factor of 2")
    parser.add_argument("--advise", action="store_true", help="recommend a recipe for this machine, with the reasons")
    parser.add_argument("--config-dir", metavar="FOLDER", help="further configuration, as for python -m runner")
    parser.add_argument("-m", "--multirun", action="store_true", help="plan each combination of values a,b")
    return parser


def _main(args: argparse.Namespace) -> int:
    args.overrides = expand_user_in_lines(args.overrides)
    warn_repeated(args.overrides, swept=True)
    args.overrides = with_last_search_path(args.overrides)
    for line in args.overrides:
        if key_of(line) == "resume":
            raise RequestError("resume", line.partition("=")[2], "no resume: what was begun has its plan in run.json")
    extra = None if args.config_dir is None else Path(expand_user(args.config_dir)).absolute()
    if extra is not None and not extra.is_dir():
        raise RequestError("--config-dir", extra, "a folder that exists")
    args.json = args.json and expand_user(args.json)
    refuse_unwritable(args.json)
    composer = Composer(caller=Path.cwd(), extra=extra, search=searched(args.overrides), writes=False)
    request = read_request(composer, args.overrides, multirun=args.multirun, check=check_run)
    for note in composer.notes:
        print(f"note: {note}", file=sys.stderr)
    require_room_for_torch()
    # Not before the request has been checked: what follows imports torch.
    lines, plain = _answer(request, args)
    if args.json != "-":
        print("\n".join(lines))
    write_json_file(args.json, plain)
    return ExitCode.DONE


def _answer(request: Request, args: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    if request.multirun:
        if args.advise:
            raise RequestError("--advise", "a sweep", "the overrides of a single run")
        from runner.forecast.sweep_forecast import describe_sweep, described_sweep, plan_sweep

        sweep = plan_sweep(request, probe=not args.no_probe)
        return describe_sweep(sweep), described_sweep(sweep)
    (config,) = request.configs
    if args.advise:
        from runner.forecast.advice import advise, describe_advice, described_advice

        advice = advise(config, args.overrides, probe=not args.no_probe)
        return describe_advice(advice), described_advice(advice)
    with bookkeeper(config) as keep_books:
        with collection_paused():
            from runner.forecast.assess import assess, described

        assessment = assess(config, probe=not args.no_probe, keep_books=keep_books)
    if assessment.device.here:
        save_forecast(assessment.plan, assessment.forecast, cache_dir=config.data.cache_dir)
    return describe(assessment), described(assessment)
