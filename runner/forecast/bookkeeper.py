"""The accountant of a private run at work in another process, while this one imports torch."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from runner.data.open import open_data
from runner.errors import RequestError
from runner.planning.privacy_plan import plan_privacy
from runner.processes.fork_server import ForkServer

if TYPE_CHECKING:
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


@contextmanager
def bookkeeper(config: RunConfig) -> Iterator[Call]:
    """Who is to call what needs the accountant of ``config``: of a private run a process that works beside this one.

    The accountant takes 0.6 s to load and some tenths to solve for the noise; torch takes 1 s meanwhile.  Where torch
    has been loaded already, nothing would be gained.
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
    solve = functools.partial(_solve, config, examples=len(data.train), validated=data.val is not None)
    with ForkServer([], initializer=solve) as server:
        yield server.call


def _solve(config: RunConfig, *, examples: int, validated: bool) -> None:
    # kept by ``calibrate_mechanism``; what is wrong with the request is said when it is asked for
    with contextlib.suppress(RequestError):
        plan_privacy(config, examples=examples, validated=validated, processes=config.hardware.processes or 1)
