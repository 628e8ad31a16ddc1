"""``python -m runner compare DIR [--by KEY] [--metric NAME] [--margin M] [--confidence P] [--reference VALUE]``.

Prints what can be said of each recipe of a sweep against the first, checks by computing that cells which differ in
performance settings only make the same update, and writes that as ``comparison.html`` beside the sweep's own report,
which stays as it is.  Exit codes: 0 done, 1 a file of the sweep is
damaged or cannot be written, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands.report_arguments import question_of, question_parser
from runner.errors import ExitCode
from runner.report.cells import read_sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Compare what ``argv`` (null: that of the process) asks for."""
    return question_parser("compare", about="Say what a sweep shows, and how sure that is.").run(argv, _compare)


def _compare(args: argparse.Namespace) -> int:
    from runner.commands.comparison import compare

    compare(args.dir, question_of(args, read_sweep(args.dir)))
    return ExitCode.DONE
