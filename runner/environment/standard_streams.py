"""Standard input, output and error of a process: there, whatever it was started with, and however its terminal ends."""

from __future__ import annotations

import os
import sys

_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))
_terminals: set[int] = set()


def open_streams() -> None:
    """Open on nothing what was closed (``>&- 2>&- <&-``), and note what is a terminal.

    The next file that is opened would take the number of a closed one, and whatever is then printed goes into it.
    """
    for number, _, _ in _STREAMS:
        try:
            os.fstat(number)
        except OSError:
            os.dup2(_nothing(), number)
            os.set_inheritable(number, True)  # which the number of what was opened itself is not
    for number, name, mode in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for the process's life
        if os.isatty(number):
            _terminals.add(number)


def survive_lost_terminal() -> None:
    """After SIGHUP: let what goes to a terminal that is gone, and would fail there, go nowhere."""
    for number in _terminals:
        if not os.isatty(number):
            os.dup2(_nothing(), number)


def _nothing() -> int:
    # not closed again: where a standard stream was closed, it may be the number of one
    return os.open(os.devnull, os.O_RDWR)
