"""``python -m runner keys``: every key that can be set, with type, default and meaning, as a page of Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runner.commands.parser import Parser
from runner.config.words.key_page import key_page
from runner.errors import ExitCode


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page and return the exit code."""
    about = "Print every key that can be set, with its type, default and meaning, as a page of Markdown."
    return Parser("keys", about=about).run(argv, _print)


def _print(args: argparse.Namespace) -> int:
    print(key_page(), end="")
    return ExitCode.DONE
