"""``python -m runner runs [DIR]``: the runs and sweeps below a folder, the newest last.

Exit codes: 0 done, also where a run is damaged, which is then told, 2 the request was wrong.  Torch is never imported.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.commands.json_file import refuse_unwritable, write_json_file
from runner.commands.parser import Parser
from runner.config.words.expand_user import expand_user
from runner.config.words.pluralize import pluralize
from runner.errors import ExitCode, RequestError
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.printable import printable
from runner.records.run_file import FINISHED
from runner.report.run_list import LISTED_STATUSES, ListedRun, list_runs

DEFAULT = "outputs"
"""Where runs go whose folder nobody names."""

_WIDE = 120
"""Columns from which what was typed stands beside the figures, and not below them."""
_MOST_LINES = 2
"""Of a verdict, an error, or what was typed."""
_COLUMNS = ("started", "status", "result", "ε", "folder")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code."""
    return _parser().run(argv, _main)


def _parser() -> Parser:
    parser = Parser("runs", about="List the runs and sweeps below a folder, from their own files, the newest last.")
    parser.add_argument("dir", nargs="?", metavar="DIR", help=f"where to look ({DEFAULT})")
    parser.add_argument(
        "--status",
        choices=LISTED_STATUSES,
        metavar="STATUS",
        help=f"only runs, and sweeps with one, that are {', '.join(LISTED_STATUSES)}",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the newest N")
    parser.add_argument("--json", metavar="FILE", help="write the list as JSON; - prints it instead of the table")
    return parser


def _main(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        raise RequestError("--limit", args.limit, "a whole number, at least 1")
    target = args.json and expand_user(args.json)
    refuse_unwritable(target)
    root = Path(expand_user(args.dir or DEFAULT))
    if not root.is_dir() and (args.dir is not None or root.exists()):
        raise RequestError("DIR", f"{root} ({'not a' if root.exists() else 'no such'} folder)", "a folder with runs")
    found = list_runs(root)
    runs = [run for run in found.runs if args.status is None or args.status in run.statuses]
    shown = runs if args.limit is None else runs[-args.limit :]
    for reason in found.unread if root.is_dir() else ():
        print(f"warning: cannot be read: {printable(reason)}", file=sys.stderr)
    write_json_file(target, [_plain(run) for run in shown])
    if target != "-":
        print(_page(shown, shutil.get_terminal_size((_WIDE, 24)).columns, f"{root}"), end="")
    return ExitCode.DONE


def _plain(run: ListedRun) -> dict[str, Any]:
    started = None if run.started is None else run.started.isoformat()
    return {"folder": run.folder, "started": started} | {
        name: getattr(run, name)
        for name in ("cells", "statuses", "typed", "metric", "value", "best", "private", "epsilon", "void")
    } | {"verdict": run.verdict, "error": run.error}  # fmt: skip


def _page(runs: Sequence[ListedRun], width: int, root: str) -> str:
    """The list for a terminal of ``width`` columns."""
    if not runs:
        return f"no runs in {printable(root)}\n"
    rows = [_figures(run) for run in runs]
    widths = [max(len(row[number]) for row in (_COLUMNS, *rows)) for number in range(len(_COLUMNS))]
    wide = width >= _WIDE
    start = sum(widths[:-1]) + 2 * len(widths[:-1])
    indent = start + min(widths[-1], 40) + 2 if wide else 4
    heading = _line(_COLUMNS, widths)
    lines = [f"{heading:<{indent}}what was typed" if wide else heading]
    for run, row in zip(runs, rows, strict=True):
        below = [line for text in _texts(run) for line in _cut(text, width - indent)]
        first = _line(row, widths)
        if len(first) > width:  # the folder has a line of its own
            first, below = _line((*row[:-1], ""), widths), [row[-1], *below]
        if wide and below and len(first) <= indent - 2:
            first = f"{first:<{indent}}{below.pop(0)}"
        lines += [first, *(" " * indent + line for line in below)]
    if any(run.private and run.cells is not None for run in runs):
        lines.append("ε of a sweep: the largest of a run; python -m runner ledger adds up all runs")
    return "\n".join(lines) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _figures(run: ListedRun) -> tuple[str, ...]:
    started = "-" if run.started is None else f"{run.started.astimezone():%Y-%m-%d %H:%M}"
    return started, _status(run), _result(run), _epsilon(run), printable(run.folder)


def _status(run: ListedRun) -> str:
    if run.cells is None:
        return next(iter(run.statuses)).replace("_", " ")
    done = sum(run.statuses.get(status, 0) for status in (*FINISHED, "pruned"))
    return f"{done} of {run.cells} done"


def _result(run: ListedRun) -> str:
    if run.value is None or run.metric is None:
        return "-"
    split, _, kind = run.metric.partition("_")
    figure = f"{run.value:.2%} {split}" if kind == "accuracy" else f"{run.value:.4g} {split} loss"
    return figure if run.cells is None else f"best {figure}"


def _epsilon(run: ListedRun) -> str:
    if run.void is not None:
        return "void"
    if not run.private:
        return "-"
    return "none" if run.epsilon is None else epsilon_text(run.epsilon)


def _texts(run: ListedRun) -> Iterator[str]:
    """What is told of a run in words."""
    typed = shlex.join(run.typed)
    if run.cells is None:
        yield typed or "(nothing typed)"
    else:
        others = [(status, count) for status, count in run.statuses.items() if status not in FINISHED]
        counts = "".join(f", {count} {status.replace('_', ' ')}" for status, count in others)
        yield f"sweep of {pluralize(run.cells, 'run')}{counts}: {_rounded(typed)}"
    if run.best:
        yield f"best: {_rounded(shlex.join(run.best))}"
    if run.verdict is not None:
        yield f"verdict: {_rounded(run.verdict)}"
    if run.void is not None:
        yield f"ε is void: {run.void}"
    if run.error is not None:
        yield f"error: {run.error}"


def _rounded(text: str) -> str:
    """``text`` with the numbers that a search has drawn to four digits."""
    return re.sub(r"\d+\.\d{6,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)


def _cut(text: str, width: int) -> list[str]:
    """``text`` in lines of ``width``, at most a few."""
    plain = printable(" ".join(text.split()))
    return textwrap.wrap(plain, max(20, width), max_lines=_MOST_LINES, placeholder=" ...", break_on_hyphens=False)
