"""What belongs to the program that calls a run from Python: out of the run's way while it works, and then as before."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins

from runner.environment.launchers import adopt_launch, launched
from runner.errors import RequestError
from runner.internals.logging_handlers import handlers_unlisted
from runner.internals.omegaconf_nodes import resolvers
from runner.processes.signals import WATCHED

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def undisturbed(call: str) -> Iterator[None]:
    """Let a run have this process for itself; then signals, logging, search path and Hydra's singletons are as before.

    The caller may be a program of Hydra's.  ``call`` is what was called, for messages.

    Raises:
        RequestError: another run is under way in this process, this is not its main thread, or a launcher started it as
            one of several.
    """
    environment = dict(os.environ)
    adopt_launch(environment)
    if launched(environment):
        raise RequestError(call, "a launcher that starts several processes", "hardware.processes=N, which starts them")
    if threading.current_thread() is not threading.main_thread():
        got = f"a call in the thread {threading.current_thread().name}"
        raise RequestError(call, got, "the main thread, which hears Ctrl-C: one run at a time in a process")
    if not _one_at_a_time.acquire(blocking=False):
        raise RequestError(call, "a call while another run is under way", "one run at a time in a process")
    try:
        with contextlib.ExitStack() as kept:
            let_wait = kept.enter_context(_signals_kept())
            for keeper in (_path_kept, _logging_kept, _hydra_kept):
                kept.enter_context(keeper())
            # the first that is called at the end: a second Ctrl-C must not cut short what puts the rest back
            kept.callback(let_wait)
            yield
    finally:
        _one_at_a_time.release()


def load_torch() -> None:
    """Import torch, whose random state is to be kept too."""
    import torch  # noqa: F401


@contextlib.contextmanager
def randomness_kept() -> Iterator[None]:
    """Put the states of random generators back at the end: Python's, and of NumPy and torch if they are loaded."""
    with contextlib.ExitStack() as kept:
        kept.callback(random.setstate, random.getstate())
        if (numpy := sys.modules.get("numpy")) is not None:
            kept.callback(numpy.random.set_state, numpy.random.get_state())
        if (torch := sys.modules.get("torch")) is not None:
            kept.enter_context(_tensors_kept(torch))
        yield


@contextlib.contextmanager
def _tensors_kept(torch: Any) -> Iterator[None]:
    state, seed = torch.get_rng_state(), torch.initial_seed()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
        elif torch.cuda.is_initialized():  # as they would have begun
            torch.cuda.manual_seed_all(seed)


@contextlib.contextmanager
def _signals_kept() -> Iterator[Callable[[], None]]:
    """Gives what lets signals wait from then on; they come once the caller's handlers are back."""
    before = {number: signal.getsignal(number) for number in (*WATCHED, signal.SIGALRM)}
    waiting: dict[int, FrameType | None] = {}

    def let_wait() -> None:
        for number in WATCHED:
            if before[number] not in (None, signal.SIG_IGN):
                signal.signal(number, waiting.__setitem__)

    try:
        yield let_wait
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python cannot be either
                signal.signal(number, handler)
        for came in waiting:
            signal.raise_signal(signal.Signals(came))


@contextlib.contextmanager
def _path_kept() -> Iterator[None]:
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """Whoever configures logging closes every handler that there is: the caller's are not in their lists meanwhile."""
    root = logging.getLogger()
    loggers = [root, *(found for found in root.manager.loggerDict.values() if isinstance(found, logging.Logger))]
    before = [(one, one.level, list(one.handlers), one.propagate, one.disabled) for one in loggers]
    own = {id(handler) for _, _, handlers, _, _ in before for handler in handlers}
    with handlers_unlisted():
        try:
            yield
        finally:
            for one, level, handlers, propagate, disabled in before:
                for handler in one.handlers:
                    if id(handler) not in own:
                        handler.close()
                one.handlers[:], one.propagate, one.disabled = handlers, propagate, disabled
                one.setLevel(level)


@contextlib.contextmanager
def _hydra_kept() -> Iterator[None]:
    """Hydra as if it had not been initialised; the caller's own configurations stay where the run finds them too."""
    Plugins.instance()  # whose modules register configurations when they are imported
    caller, config, store = GlobalHydra.instance(), HydraConfig.instance(), ConfigStore.instance()
    composed, registered, registered_resolvers = config.cfg, _tree(store.repo), dict(resolvers())
    apart = copy.copy(caller)
    apart.clear()
    GlobalHydra.set_instance(apart)
    config.cfg = None
    try:
        yield
    finally:
        GlobalHydra.set_instance(caller)
        config.cfg = composed
        store.repo = _without_ours(store.repo, registered)
        resolvers().update(registered_resolvers)


def _tree(node: Any) -> Any:
    """The folders of a configuration store, copied, with the same leaves."""
    return {name: _tree(inner) for name, inner in node.items()} if isinstance(node, dict) else node


def _without_ours(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The store as it was before, with what modules that were imported since have registered."""
    found: dict[str, Any] = {}
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name), now.get(name)
        if isinstance(new, dict) and not isinstance(old, dict | None):
            found[name] = old
        elif isinstance(new, dict):
            inner = _without_ours(new, old or {})
            if inner or name in before:
                found[name] = inner
        elif old is not None:
            found[name] = old
        elif getattr(new, "provider", None) != "runner":
            found[name] = new
    return found
