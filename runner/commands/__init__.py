"""What a person types: ``python -m runner COMMAND``, one file a command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from runner.errors import RequestError, nearest


class Command(NamedTuple):
    """A command and what it is for."""

    about: str
    """One line for ``--help``."""
    elsewhere: str = ""
    """What other tools call it, separated by blanks."""
    alone: bool = True
    """Works in one process, whatever starts it."""


COMMANDS = {
    "train": Command(
        "a run, a grid or a search; the command where none is named",
        "fit run training sweep tune search multirun finetune",
        alone=False,
    ),
    "plan": Command(
        "what a run or sweep would be and take, without running it; --advise", "estimate dry-run dryrun advise profile"
    ),
    "infer": Command(
        "a finished run's model put to use: evaluated, or on your images",
        "predict inference test evaluate eval validate val score",
    ),
    "export": Command("a finished run's model as one file: ONNX or torch.export", "convert onnx save deploy"),
    "runs": Command("the runs and sweeps below a folder, in a table", "ls list status history experiments jobs ps"),
    "report": Command(
        "the report of a sweep or run again, from its files; --live", "summary plot dashboard watch serve ui"
    ),
    "compare": Command("the statistics of a sweep, and its cells' claims checked by computing", "diff stats"),
    "audit": Command("a private recipe attacked, and its epsilon judged", "attack mia"),
    "ledger": Command("what all private runs on a data set have spent", "budget privacy spent"),
    "bench": Command("the runner beside loops by hand and other libraries, timed", "benchmark time speed"),
    "keys": Command("every key that can be set, with its type, default and meaning", "config params options settings"),
}
"""In the order of ``--help``."""


def chosen(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command that the words ``argv`` name, which may be none that there is, and the words that it is given."""
    first, rest = (argv[0], argv[1:]) if argv else ("", [])
    if first in COMMANDS:
        return first, rest
    if first == "help":
        name, words = chosen(rest)
        return name, ["--help", *words]
    return (first, rest) if is_bare(first) and not first.endswith((".yaml", ".yml")) else ("train", argv)


def is_bare(word: str) -> bool:
    """Whether ``word`` can only have been meant as a command: it is no flag and sets no key."""
    return re.match(r"[^-+~=][^=]*$", word) is not None


def unknown_command(word: str) -> RequestError:
    """The refusal of ``word``, which stands where a command does."""
    meant = next((name for name, command in COMMANDS.items() if word.lower() in command.elsewhere.split()), None)
    near = meant or (None if "." in word else nearest(word.lower(), [*COMMANDS, "help"]))
    return RequestError(word, "a bare word", f"key=value, or a command: {', '.join(COMMANDS)}", nearest=near)
