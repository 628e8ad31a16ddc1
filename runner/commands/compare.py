"""``python -m runner compare DIR [--by KEY] [--metric NAME] [--margin M] [--confidence P] [--reference VALUE]``.

Prints what can be said of each recipe of a sweep against the first, checks by computing that cells which differ in
performance settings only make the same update, and renews the report.  Exit codes: 0 done, 1 a file of the sweep is
damaged or cannot be written, 2 the request was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from runner.commands.report_arguments import parse, question_of
from runner.errors import ExitCode
from runner.processes.command_end import answer
from runner.report.budgets import describe_budget, warnings
from runner.report.cells import read_sweep
from runner.report.contents import find
from runner.report.update_checks import describe_check, read_checks
from runner.report.verdict import describe_comparison
from runner.sweep.finish import finish_sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Compare what ``argv`` (null: that of the process) asks for."""
    return answer(lambda: _compare(argv))


def _compare(argv: Sequence[str] | None) -> int:
    args = parse(argv, prog="python -m runner compare", description="Say what a sweep shows, and how sure that is.")
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
