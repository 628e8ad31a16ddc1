"""``python -m runner keys``: every key that can be set, with type, default and meaning, as a page of Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands import COMMANDS
from runner.commands.parser import Parser
from runner.config.groups import CLOSED, OPEN, SECTIONS
from runner.config.words.key_page import key_page, rows_with
from runner.config.words.synonym_page import synonym_page
from runner.errors import ExitCode, RequestError, nearest


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page and return the exit code."""
    about = "Print every key that can be set, with its type, default and meaning, as a page of Markdown."
    parser = Parser("keys", about=about)
    parser.add_argument("word", nargs="?", help="print only the group of that name, and the rows that have the word")
    parser.add_argument(
        "--elsewhere", action="store_true", help="print instead what other tools call things, and what is typed here"
    )
    return parser.run(argv, _print)


def _print(args: argparse.Namespace) -> int:
    if args.word is not None:
        if args.elsewhere:
            raise RequestError("WORD", args.word, "nothing besides --elsewhere, which prints one table")
        if not (page := rows_with(args.word)):
            near = nearest(args.word, [*OPEN, *CLOSED, *SECTIONS])
            raise RequestError("WORD", args.word, "a group, a key or a word of its meaning", nearest=near)
        print(page, end="")
        return ExitCode.DONE
    words = {name: command.elsewhere for name, command in COMMANDS.items()}
    print(synonym_page(words) if args.elsewhere else key_page(), end="")
    return ExitCode.DONE
