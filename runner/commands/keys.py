"""``python -m runner keys``: every key that can be set, with type, default and meaning, as a page of Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands import COMMANDS
from runner.commands.parser import Parser
from runner.config.words.key_page import key_page
from runner.config.words.synonym_page import synonym_page
from runner.errors import ExitCode


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page and return the exit code."""
    about = "Print every key that can be set, with its type, default and meaning, as a page of Markdown."
    parser = Parser("keys", about=about)
    parser.add_argument(
        "--elsewhere", action="store_true", help="print instead what other tools call things, and what is typed here"
    )
    return parser.run(argv, _print)


def _print(args: argparse.Namespace) -> int:
    words = {name: command.elsewhere for name, command in COMMANDS.items()}
    print(synonym_page(words) if args.elsewhere else key_page(), end="")
    return ExitCode.DONE
