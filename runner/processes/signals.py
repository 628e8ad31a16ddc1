"""Signals ask a run to finish its step, save and end with exit code 75; who insists ends it at once.

Which these are, and which of them insist, is said in ``runner.processes.keyboard_interrupt``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType

from runner.processes.keyboard_interrupt import WATCHED, Asked, is_ignored


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Processes that are started in this context hear no Ctrl-C until each calls ``end_quietly``.

    A terminal tells the whole process group, and a new process would answer with a traceback of whatever it imports at
    that moment.  This one hears it when the context ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_quietly() -> None:
    """Let Ctrl-C end this process without a word, for the process that started it will answer."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background is deaf and stays so
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class StopRequest:
    """While entered, turns the first watched signal into ``pending``.

    Before and after the loop there is no step to finish, so a run of one process ends there at once, by
    ``KeyboardInterrupt``.  One of several goes on to its first step, at which all of them stop together: if one left
    by itself, the others would wait for it.
    """

    def __init__(self, *, alone: bool) -> None:
        """``alone``: this is the only process of the run."""
        self._asked = Asked()
        self._alone = alone
        self._is_handled = False
        self._previous: dict[signal.Signals, object] = {}

    @property
    def pending(self) -> signal.Signals | None:
        """The first watched signal; None where none has come."""
        return self._asked.first

    def __enter__(self) -> StopRequest:
        for number in WATCHED:
            if not is_ignored(number):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Inside this context somebody looks at ``pending`` after every step, so that nothing has to be cut short."""
        self._is_handled = True
        try:
            yield
        finally:
            self._is_handled = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        heard_before = self.pending is not None
        if self._asked.hear(number):
            # The user insists: no more Python, nothing half-written can be made worse (writes are atomic).
            os._exit(128 + number)
        if self._alone and not self._is_handled and not heard_before:
            raise KeyboardInterrupt(signal.Signals(number).name)
