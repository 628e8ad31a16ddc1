"""What each signal means to this program, and who hears it.

| signal  | who sends it                                                  | what follows                               |
|---------|---------------------------------------------------------------|--------------------------------------------|
| SIGINT  | Ctrl-C, to the terminal's whole process group                 | save, end with 75; again: the end at once  |
| SIGTERM | kill, container runtimes, schedulers whose time is over       | the same                                   |
| SIGUSR1 | sbatch --signal, Grid Engine, submitit; we, to our processes  | save, end with 75                          |
| SIGUSR2 | submitit, Grid Engine's -notify                               | the same                                   |
| SIGHUP  | a terminal or a connection that closes                        | the same; prints nothing there any more    |
| SIGXCPU | the limit of CPU seconds (Grid Engine's s_cpu), each second   | the same                                   |
| SIGKILL | we, to processes whose caller insists or has gone             | the end                                    |
| SIGALRM | the timer of ``keyboard_interrupt``                           | a Ctrl-C that was lost is repeated         |
| SIGCHLD | the kernel, to a fork server                                  | a call has ended                           |

SIGQUIT, which asks for a core dump, is left alone.  A signal that the process was started to ignore (nohup) stays
ignored, but for SIGINT and SIGTERM.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from runner.environment.standard_streams import survive_lost_terminal

INSISTING = (signal.SIGTERM, signal.SIGINT)
"""A second one of these ends a process at once: who sends them means an end, not a warning."""
WATCHED: tuple[signal.Signals, ...] = (
    *INSISTING,
    *(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU") if hasattr(signal, name)),
)
"""Signals that ask a process to save what it has and end with exit code 75."""


_PATIENCE = 0.25
"""Seconds that a signal waits for the main thread to leave ``logging``."""
_postponed: dict[int, float] = {}
"""Signals that wait, and since when."""


def postpone_inside_logging(number: int, frame: FrameType | None) -> bool:
    """Whether the main thread is inside ``logging``; the signal comes again as soon as it is not.

    An exception between the lines of ``logging`` that take and give back its lock leaves it taken, and whatever other
    thread logs then waits for ever: a prefetcher of a notebook's next run, say.
    """
    while frame is not None and frame.f_globals is not vars(logging):
        frame = frame.f_back
    if frame is None or time.monotonic() - _postponed.setdefault(number, time.monotonic()) > _PATIENCE:
        _postponed.pop(number, None)
        return False
    # the bare thread, because starting one of ``threading`` takes locks that the interrupted code may hold
    _thread.start_new_thread(_send_again, (number,))
    return True


def _send_again(number: int) -> None:
    time.sleep(0.002)
    signal.pthread_kill(threading.main_thread().ident or 0, number)


class EndRequests:
    """How often a process was asked to end.

    A scheduler warns (SIGUSR2, say) and sends SIGTERM when the time is over; a limit of CPU time warns each second.
    Only who has asked by SIGTERM or Ctrl-C and does so again insists.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        """The first signal; None where none has come."""
        self._insisting = 0

    def add(self, number: int) -> bool:
        """Take note of a watched signal; whether who sends it insists."""
        if number == getattr(signal, "SIGHUP", None):
            survive_lost_terminal()
        self.first = self.first or signal.Signals(number)
        self._insisting += number in INSISTING
        return number in INSISTING and self._insisting > 1


@contextlib.contextmanager
def watched_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``handler`` for each watched signal inside this context, in place of whoever heard it before."""
    previous = {
        number: signal.signal(number, handler)
        for number in WATCHED
        if number in INSISTING or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


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


class Forwarding:
    """What this process was told while it waits for others, and passes on to them."""

    def __init__(self, send: Callable[[int], None]) -> None:
        """``send`` gives a signal to each of the processes that there are."""
        self.heard: list[signal.Signals] = []
        """What this process was told."""
        self.sent: int | None = None
        """What the others were told last."""
        self._send = send
        self._requests = EndRequests()

    def ask_to_end(self, number: int = signal.SIGUSR1) -> None:
        """Send ``number`` to the processes, and by ``repeat`` to those that are started later."""
        self.sent = number if self.sent != signal.SIGKILL else self.sent
        self._send(self.sent)

    def repeat(self) -> None:
        """Send again what was sent, once a further process has been started."""
        if self.sent is not None:
            self._send(self.sent)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler of the watched signals."""
        self.heard.append(signal.Signals(number))
        self.ask_to_end(signal.SIGKILL if self._requests.add(number) else signal.SIGUSR1)


@contextlib.contextmanager
def signals_forwarded(send: Callable[[int], None]) -> Iterator[Forwarding]:
    """Pass watched signals on to other processes, which are to save and end, in place of whoever does otherwise.

    They go as SIGUSR1, which also ends a process that does not listen yet, and is no insisting where schedulers have
    told each process themselves.  Who insists ends the processes at once, wherever they are.
    """
    forwarding = Forwarding(send)
    with watched_by(forwarding.hear):
        yield forwarding


class StopRequest:
    """While entered, turns the first watched signal into ``pending``, and ends the process when somebody insists.

    Before and after the loop there is no step to finish, so a run of one process ends there at once, by
    ``KeyboardInterrupt``.  One of several goes on to its first step, at which all of them stop together: if one left
    by itself, the others would wait for it.
    """

    def __init__(self, *, alone: bool, ends_process: bool = True) -> None:
        """``alone``: this is the only process of the run, and with ``ends_process`` it ends with the run."""
        self._ends_process = ends_process
        self._requests = EndRequests()
        self._alone = alone
        self._is_polled = False
        self._watching = watched_by(self._hear)

    @property
    def pending(self) -> signal.Signals | None:
        """The first watched signal; None where none has come."""
        return self._requests.first

    def __enter__(self) -> StopRequest:
        self._watching.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watching.__exit__(kind, error, traceback)

    @contextlib.contextmanager
    def polled(self) -> Iterator[None]:
        """Inside this context somebody looks at ``pending`` after every step, so that nothing has to be cut short."""
        self._is_polled = True
        try:
            yield
        finally:
            self._is_polled = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if postpone_inside_logging(number, frame):
            return
        heard_before = self.pending is not None
        if self._requests.add(number):
            if not self._ends_process:  # a notebook, say, which holds more than this run
                raise KeyboardInterrupt(signal.Signals(number).name)
            # The user insists: no more Python, nothing half-written can be made worse (writes are atomic).
            os._exit(128 + number)
        if self._alone and not self._is_polled and not heard_before:
            raise KeyboardInterrupt(signal.Signals(number).name)
