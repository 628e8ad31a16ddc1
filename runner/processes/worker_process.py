"""Calls that another process answers, forked from this one: what they load and hold is not this process's."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from runner.data.open import open_data
from runner.errors import RequestError, RunError
from runner.plan.privacy_plan import plan_privacy

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from runner.config.schema import RunConfig

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Call(Protocol):
    """Calls a function, wherever that is."""

    def __call__(self, function: Callable[Given, Answer], /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """What ``function`` returns."""


def call_here(function: Callable[Given, Answer], /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
    """Call ``function`` in this process."""
    return function(*args, **kwargs)


class WorkerProcess:
    """A process that answers one call after another; a context that ends it.  Fork before any thread has started."""

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        """Fork the process, which calls ``prepare`` while this one goes on."""
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._connection, prepare))
        self._process.start()
        theirs.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
        self._process.join()

    def __call__(self, function: Callable[Given, Answer], /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """What ``function`` returns there; all of it must be picklable.

        Raises:
            RequestError: it was raised there.
            RunError: it was raised there, or the process ended without an answer.
        """
        try:
            self._connection.send((function, args, kwargs))
            found: Answer | RequestError | RunError = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise RunError(f"planning ended with code {self._process.exitcode}") from error
        if isinstance(found, RequestError | RunError):
            raise found
        return found


def _serve(connection: Connection, other_end: Connection, prepare: Callable[[], None] | None) -> None:
    other_end.close()
    # the process that asks says that it was interrupted
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if prepare is not None:
        prepare()
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            return
        try:
            answer = function(*args, **kwargs)
        except (RequestError, RunError) as error:
            answer = error
        connection.send(answer)


@contextmanager
def bookkeeper(config: RunConfig) -> Iterator[Call]:
    """Who is to call what needs the accountant of ``config``: of a private run a process that works beside this one.

    The accountant takes 0.6 s to load and some tenths to solve for the noise; torch takes 1 s meanwhile.  Not once
    torch has been loaded here: its threads would not survive a fork.
    """
    # to ask weights for their size takes torch
    if not config.privacy.enabled or config.model.weights is not None or "torch" in sys.modules:
        yield call_here
        return
    # here, so that the files of new data are decoded once
    try:
        data = open_data(config.data)
    except RequestError:  # what is wrong, or left to the model, is settled where the plan is made
        yield call_here
        return

    def solve() -> None:
        # kept by ``calibrate_mechanism``; what is wrong with the request is said when it is asked for
        with contextlib.suppress(RequestError):
            plan_privacy(
                config,
                examples=len(data.train),
                validated=data.val is not None,
                processes=config.hardware.processes or 1,
            )

    with WorkerProcess(solve) as call:
        yield call
