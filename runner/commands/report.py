"""``python -m runner report DIR [--by KEY] [--metric NAME] [--margin M] [--confidence P] [--reference VALUE]``.

Writes the report of a sweep, or of a single run, from its files alone; torch is never imported.  With ``--live
[--port N]`` it writes nothing, and serves a page on this machine that shows the folder while its cells run.  Exit
codes: 0 done, 1 a file of the sweep is damaged or the report cannot be written, 2 the request was wrong, 75 the page
was ended.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands.parser import Parser
from runner.commands.report_arguments import question_of, question_parser
from runner.errors import ExitCode, RequestError


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that ``argv`` (null: that of the process) asks for, or serve it."""
    return _parser().run(argv, _report)


def _parser() -> Parser:
    about = "Write the report of a sweep, from its files alone, or show it while it runs."
    parser = question_parser("report", about=about)
    parser.add_argument("--live", action="store_true", help="serve a page that follows the sweep, until Ctrl-C")
    parser.add_argument("--port", type=int, help="of the page (default: any that is free)")
    return parser


def _report(args: argparse.Namespace) -> int:
    if args.port is not None and not args.live:
        raise RequestError("--port", args.port, "--live beside it: a report is a file")
    from runner.commands.reporting import report, serve_report

    if args.live:
        serve_report(args.dir, lambda sweep: question_of(args, sweep), args.port)
    else:
        report(args.dir, lambda sweep: question_of(args, sweep))
    return ExitCode.DONE
