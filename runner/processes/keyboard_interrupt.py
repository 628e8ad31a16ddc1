"""Ctrl-C and other requests to end that are heard, whatever Python or a library makes of them.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be, and what is there may lose it: the callback
of a weak reference or ``__del__``, whose errors end there; C code that clears the error of a look-up, as while modules
are imported; a library that takes every exception for a failure of its own.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from runner.processes.signals import WATCHED, EndRequests, postpone_inside_logging

_PATIENCE = 0.25
"""Seconds after which a Ctrl-C that nothing follows from is repeated."""


class Interruption:
    """Whether a command has been told to end."""

    def __init__(self, numbers: Sequence[signal.Signals] = ()) -> None:
        """``numbers`` are the signals that tell it."""
        self.heard = False
        self._numbers = numbers
        self._requests = EndRequests()
        self._latest = signal.SIGINT

    def answered(self) -> None:
        """Only the answer is left to say: from here on a signal ends the process as if no Python ran in it."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of its signals."""
        if postpone_inside_logging(number, frame):
            return
        self.heard = True
        self._requests.add(number)
        self._latest = signal.Signals(number)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        raise KeyboardInterrupt

    def look(self, number: int, frame: FrameType | None) -> None:
        """Repeat what was lost: as long as it is on its way, it is what the main thread handles."""
        error = sys.exception()
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__context__
        if error is None:
            signal.raise_signal(self._latest)  # to whoever hears it by now
        else:
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)


_under_way: list[Interruption] = []
"""The command of this process; a command within a command is the same one."""


def interrupted() -> bool:
    """Whether Ctrl-C has been heard, so that whatever fails now may have failed because of it."""
    return any(command.heard for command in _under_way)


@contextmanager
def hearing(*, ends_process: bool = True) -> Iterator[Interruption]:
    """Raise ``KeyboardInterrupt`` in this context for each watched signal, until it gets through.

    One that somebody else handles already, or that the process is deaf to, stays as it is.

    Once heard, a process that ``ends_process`` says ends with its command is not interrupted by Python in what is left.
    """
    if _under_way:
        yield _under_way[0]
        return
    if threading.current_thread() is not threading.main_thread():
        yield Interruption()
        return
    previous = {number: signal.getsignal(number) for number in WATCHED}
    free = (signal.default_int_handler, signal.SIG_DFL)
    numbers = [number for number, handler in previous.items() if handler in free]
    command, unraisable = Interruption(numbers), sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            unraisable(lost)

    _under_way.append(command)
    sys.unraisablehook = hook
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    alarm = signal.signal(signal.SIGALRM, command.look)
    for number in numbers:
        signal.signal(number, command.note)
    try:
        yield command
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # of whoever called the command from Python
        for number in numbers:
            signal.signal(number, signal.SIG_DFL if command.heard and ends_process else previous[number])
        sys.unraisablehook = unraisable
        _under_way.clear()
