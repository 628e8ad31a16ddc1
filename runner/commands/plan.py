"""``python -m runner plan [--json FILE] [--no-probe] [--advise] [overrides]``: what would be, without running it.

Exit codes: 0 done, 1 planning failed, 2 the request was wrong, which is answered before torch is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.api.plan import assess_run, read_plan_request
from runner.commands.json_file import refuse_unwritable, write_json_file
from runner.commands.parser import Parser
from runner.config.request.request import Request
from runner.config.words.expand_user import expand_user
from runner.config.words.override_lines import warn_repeated
from runner.config.words.unknown_flag import in_place_of
from runner.errors import ExitCode, RequestError
from runner.forecast.describe import describe, described


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
    warn_repeated(args.overrides, swept=True)
    extra = None if args.config_dir is None else Path(expand_user(args.config_dir)).absolute()
    args.json = args.json and expand_user(args.json)
    refuse_unwritable(args.json)
    args.overrides, request = read_plan_request(args.overrides, multirun=args.multirun, config_dir=extra)
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
    assessment = assess_run(config, probe=not args.no_probe)
    return describe(assessment), described(assessment)
