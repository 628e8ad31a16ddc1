"""``python -m runner keys``: every key that can be set, with type, default and meaning, as a page of Markdown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runner.config.words.key_page import key_page
from runner.errors import ExitCode
from runner.processes.command_end import answer, ending


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page and return the exit code."""
    return answer(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    argparse.ArgumentParser(prog="python -m runner keys", description="Print the page of all keys.").parse_args(argv)
    print(key_page(), end="")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(ending(main()))
