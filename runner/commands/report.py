"""``python -m runner report DIR [--by KEY] [--metric NAME] [--margin M] [--confidence P] [--reference VALUE]``.

Writes the report of a sweep, or of a single run, from its files alone; torch is never imported.  Exit codes: 0 done,
1 a file of the sweep is damaged or the report cannot be written, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands.report_arguments import question_of, question_parser
from runner.errors import ExitCode
from runner.report.cells import read_sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that ``argv`` (null: that of the process) asks for."""
    return question_parser("report", about="Write the report of a sweep, from its files alone.").run(argv, _report)


def _report(args: argparse.Namespace) -> int:
    from runner.report.write import write_report

    report = write_report(args.dir, question_of(args, read_sweep(args.dir)))
    print(f"verdict: {report.verdict}")
    print(f"report: {report.path}")
    return ExitCode.DONE
