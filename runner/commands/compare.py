"""``python -m runner compare DIR [--by KEY] [--metric NAME] [--margin M] [--confidence P] [--reference VALUE]``.

Prints what can be said of each recipe of a sweep against the first, checks by computing that cells which differ in
performance settings only make the same update, and renews the report.  Exit codes: 0 done, 1 a file of the sweep is
damaged or cannot be written, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands.report_arguments import question_of, question_parser
from runner.errors import ExitCode
from runner.report.budgets import describe_budget, warnings
from runner.report.cells import read_sweep
from runner.report.contents import find
from runner.report.update_checks import describe_check, read_checks
from runner.report.verdict import describe_comparison
from runner.sweep.finish import finish_sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Compare what ``argv`` (null: that of the process) asks for."""
    return question_parser("compare", about="Say what a sweep shows, and how sure that is.").run(argv, _compare)


def _compare(args: argparse.Namespace) -> int:
    sweep = read_sweep(args.dir)
    wanted = question_of(args, sweep)
    findings = find(sweep, wanted)
    lines = [describe_comparison(one, findings.question) for one in findings.comparisons]
    if (budget := describe_budget(findings.grouping)) is not None:
        lines.append(budget)
    print("\n".join([findings.verdict, *lines, *warnings(findings.grouping)]), flush=True)
    report = finish_sweep(args.dir, wanted)
    for check in read_checks(args.dir):
        print(describe_check(check))
    print(f"report: {report.path}")
    return ExitCode.DONE
