"""``python -m runner ledger``: what all private runs on a data set have spent, and whether the record is whole.

``show`` (which may be left out) lists the runs of every data set, or of those named, with the epsilon of publishing
them all; ``verify`` checks every line against the chain of hashes.  Exit codes: 0 done, 1 a ledger is broken, 2 the
request was wrong.  Torch is never imported.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from runner.commands.parser import Parser
from runner.config.words.pluralize import pluralize
from runner.errors import ExitCode, RequestError, nearest
from runner.privacy.accounting.privacy_text import delta_text, epsilon_text
from runner.privacy.accounting.sweep_epsilon import UNCOVERED
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import Entry, Ledger, compose_entries, find_ledgers, ledger_folder
from runner.privacy.ledger.overlap import related

_COMMANDS = ("show", "verify")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code."""
    return _parser().run(argv, _main)


def _main(args: argparse.Namespace) -> int:
    command, names = "show", list(args.words)
    if names and names[0] in _COMMANDS:
        command = names.pop(0)
    folder = ledger_folder(args.dir)
    ledgers = _chosen(folder, names, explicit=args.dir is not None)
    width = shutil.get_terminal_size((120, 24)).columns
    return _verify(ledgers) if command == "verify" else _show(ledgers, width, find_ledgers(folder))


def _parser() -> Parser:
    parser = Parser(
        "ledger",
        about="Show what private runs on a data set have spent together, or verify the record of them.",
        failed="a ledger is broken",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[show|verify] DATA",
        help="what to do (show), and which data sets: the beginning of the hash of the contents, or a name (all)",
    )
    parser.add_argument("--dir", metavar="FOLDER", help="folder of the ledgers: privacy.ledger_dir of the runs")
    return parser


def _chosen(folder: Path, names: Sequence[str], *, explicit: bool) -> list[Ledger]:
    """The ledgers in ``folder`` that ``names`` choose; all of them when there is no name.

    Raises:
        RequestError: the folder cannot be read, or a name fits none.
    """
    try:
        if explicit and not folder.is_dir():
            raise RequestError("--dir", folder, "a folder that exists")
        ledgers = find_ledgers(folder)
        known = {ledger: _names(ledger) if names else set() for ledger in ledgers}
    except OSError as error:
        raise RequestError("--dir", f"{folder} ({error.strerror or error})", "a folder that can be read") from error
    for name in names:
        if not any(_fits(ledger, name, known[ledger]) for ledger in ledgers):
            if name.startswith(("ledger_dir=", "privacy.ledger_dir=")):
                raise RequestError("DATA", name, f"--dir {name.partition('=')[2]}: a flag of this command")
            words = sorted(set().union(*known.values()))
            raise RequestError("DATA", name, "a data set with a ledger", nearest=nearest(name, words))
    return [ledger for ledger in ledgers if not names or any(_fits(ledger, name, known[ledger]) for name in names)]


def _fits(ledger: Ledger, name: str, known: set[str]) -> bool:
    return name in known or ledger.contents.startswith(name)


def _names(ledger: Ledger) -> set[str]:
    """The names under which runs used the data; none where the ledger is broken, which is told later."""
    try:
        return {entry.planned.data for entry in ledger.entries()}
    except BrokenChain:
        return set()


def _verify(ledgers: Sequence[Ledger]) -> int:
    broken = 0
    for ledger in ledgers:
        try:
            lines, torn = ledger.verify()
        except (BrokenChain, OSError) as fault:
            print(f"error: {ledger.contents}: {fault}", file=sys.stderr)
            broken += 1
        else:
            tail = "; a torn last line, left by a kill, goes with the next record" if torn else ""
            print(f"{ledger.contents}: {pluralize(lines, 'line')}, whole{tail}")
    if not ledgers:
        print("no private run is recorded")
    return ExitCode.FAILED if broken else ExitCode.DONE


def _show(ledgers: Sequence[Ledger], width: int, every: Sequence[Ledger]) -> int:
    broken = 0
    for ledger in ledgers:
        try:
            entries = ledger.entries()
        except (BrokenChain, OSError) as fault:
            print(f"error: {ledger.contents}: {fault}", file=sys.stderr)
            broken += 1
        else:
            print(_page(ledger, entries, width, related(ledger, every)))
    if not ledgers:
        print("no private run is recorded")
    return ExitCode.FAILED if broken else ExitCode.DONE


def _page(ledger: Ledger, entries: Sequence[Entry], width: int, others: Sequence[tuple[Ledger, int | None]]) -> str:
    """The runs on one data set and what they spent together, and with those on data that share images with it."""
    names = ", ".join(sorted({entry.planned.data for entry in entries})) or "data"
    from runner.commands.ledger_table import table_text

    lines = [f"{names}  {ledger.contents[:16]}", table_text(entries, width)]
    composed = compose_entries(entries)
    if composed is not None and composed.void:
        void = pluralize(len(composed.void), "run")
        lines.append(f"publishing all private runs: no bound is known, for the ε of {void} is void")
        lines += [f"void: {reason}" for reason in composed.void]
    elif composed is not None:
        private = [entry for entry in entries if entry.planned.private]
        adjacency = ", ".join(sorted({f"{one.planned.adjacency}, {one.planned.sampling} sampling" for one in private}))
        every = f"{'all ' if len(private) > 1 else ''}{pluralize(len(private), 'private run')}"
        lines.append(
            f"publishing {every}: ε={epsilon_text(composed.epsilon)} at δ={delta_text(composed.delta)}"
            f" ({composed.accountant} composition; {adjacency})"
        )
    lines += _together(entries, others)
    # one that went on to its end after a kill has made all of them
    killed = sum(not entry.known and entry.ended_at < entry.planned.steps for entry in entries)
    if killed:
        lines.append(f"going on or killed: {pluralize(killed, 'run')}, with all steps that were planned")
    public = sum(not entry.planned.private for entry in entries)
    if public:
        lines.append(f"with privacy.unsafe_noise_seed, so not private: {pluralize(public, 'run')} that no ε covers")
    uses = sum(entry.uses for entry in entries)
    if uses:
        lines.append(f"{pluralize(uses, 'evaluation')} {UNCOVERED}")
    return "\n".join(lines) + "\n"


def _together(entries: Sequence[Entry], others: Sequence[tuple[Ledger, int | None]]) -> list[str]:
    """What somebody gives away whose image is in all of the data sets."""
    lines, every = [], list(entries)
    for other, images in others:
        have = "all images, under the name of an earlier version," if images is None else f"about {images:,} images"
        try:
            theirs = other.entries()
        except (BrokenChain, OSError):
            lines.append(f"has {have} in common with {other.contents[:16]}, whose ledger is broken")
            continue
        every += theirs
        names = ", ".join(sorted({entry.planned.data for entry in theirs}))
        lines.append(f"has {have} in common with {names}  {other.contents[:16]}")
    composed = compose_entries(every)
    if lines and composed is not None:
        bound = (
            "no bound is known"
            if composed.void
            else f"ε={epsilon_text(composed.epsilon)} at δ={delta_text(composed.delta)}"
        )
        lines.append(f"publishing all private runs on any of these data: {bound}")
    return lines
