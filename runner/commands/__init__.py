"""What a person types: ``python -m runner COMMAND``, one file a command."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command and what it is for."""

    about: str
    """One line for ``--help``."""
    alone: bool = True
    """Works in one process, whatever starts it."""


COMMANDS = {
    "train": Command("a run, a grid or a search; the command where none is named", alone=False),
    "plan": Command("what a run or sweep would be and take, without running it; --advise"),
    "infer": Command("a finished run's model put to use: evaluated, or on your images"),
    "export": Command("a finished run's model as one file: ONNX or torch.export"),
    "report": Command("the report of a sweep or run again, from its files"),
    "compare": Command("the statistics of a sweep, and its cells' claims checked by computing"),
    "audit": Command("a private recipe attacked, and its epsilon judged"),
    "ledger": Command("what all private runs on a data set have spent"),
    "bench": Command("the runner beside loops by hand and other libraries, timed"),
    "keys": Command("every key that can be set, with its type, default and meaning"),
}
"""In the order of ``--help``."""
