"""Trackers: a second copy of the records, for people.  The run's own files are the truth."""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from runner.config.schema import TrackerConfig
from runner.config.untrusted.targets import locate
from runner.config.untrusted.user_code import with_place
from runner.errors import RequestError
from runner.records.metrics import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a tracker needs to know to file a run."""

    run_dir: Path
    name: str
    config: Mapping[str, Any]
    """The composed configuration as plain values."""
    group: str | None = None
    """The sweep that the run belongs to."""
    job_type: str = "train"
    run_id: str | None = None
    """Identity that the tracker gave to this run before it was interrupted."""
    records: int = 0
    """Records that ``metrics.jsonl`` already holds, when the run is resumed."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The report of a sweep, for a tracker that can show it."""

    verdict: str
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]
    """Name -> head and rows."""
    pictures: Sequence[Path]
    """PNG files."""
    page: Path
    """One self-contained HTML file."""


class Sink(Protocol):
    """Where records are copied to.  A sink may fail in any way: ``GuardedSink`` keeps that from the run.

    Its class has ``requires``, the package that it imports; and, if it can write to the run's folder alone,
    ``traceless``, the settings of ``TrackerConfig`` under which it does: a plan then times it in a folder of its own.
    """

    @property
    def run_id(self) -> str | None:
        """The tracker's identity of a new run, known from the beginning; None if the tracker has no such thing."""

    def start(self, info: RunInfo) -> None:
        """Begin or continue a run."""

    def log(self, record: Record) -> None:
        """Copy one line of ``metrics.jsonl``."""

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """End the run with the metrics of ``run.json`` and the exit code of the process."""


@runtime_checkable
class PublishingSink(Sink, Protocol):
    """A sink that can show a sweep's report besides, between ``start`` and ``finish``."""

    def publish(self, publication: Publication) -> None:
        """Copy a report."""


class GuardedSink:
    """Runs another sink on a thread of its own and keeps everything that goes wrong there away from the run.

    The contract: a tracker may neither stop a run, nor change its result, nor slow it down.  Trackers are large, talk
    to services and networks, and fail in ways that nobody can list; so this is the one place of the program where any
    exception whatever is caught.  The first one is reported once, the sink is switched off, and the run goes on, for
    its own files hold all that the tracker would have held.  Waiting is kept away by the thread: starting W&B takes
    half a second, or ten when its server cannot be reached.
    """

    def __init__(
        self, sink: Sink, name: str, *, warn: Callable[[str], None] = log.warning, patience: float = 90.0
    ) -> None:
        """Guard ``sink``, called ``name`` in messages.

        Args:
            sink: what to guard.
            name: how the messages call it.
            warn: takes the one message, from any thread.
            patience: seconds that ``finish`` waits for the sink before it leaves it behind.
        """
        self._sink = sink
        self._name = name
        self._warn = warn
        self._patience = patience
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._off = False
        self._resumed_id: str | None = None
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)

    @property
    def run_id(self) -> str | None:
        """Identity of the run to be kept with every checkpoint, also with one that is saved before the sink is up."""
        return self._resumed_id or self._sink.run_id

    def start(self, info: RunInfo) -> None:
        """Begin the run in the background."""
        self._resumed_id = info.run_id
        self._thread.start()
        self._calls.put(lambda: self._sink.start(info))

    def log(self, record: Record) -> None:
        """Hand over one record; returns at once."""
        if not self._off:
            self._calls.put(lambda: self._sink.log(record))

    @property
    def publishes(self) -> bool:
        """Whether the sink can show a report."""
        return isinstance(self._sink, PublishingSink)

    def publish(self, publication: Publication) -> None:
        """Hand over a report, to a sink that ``publishes``."""
        assert isinstance(self._sink, PublishingSink)
        publish = self._sink.publish
        self._calls.put(lambda: publish(publication))

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """End the run and wait for the sink, at most ``patience`` seconds."""
        self._calls.put(lambda: self._sink.finish(summary, exit_code))
        self._calls.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._switch_off(f"still busy after {self._patience:g} s")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._off:
                continue
            try:
                call()
            except BaseException as error:
                self._switch_off(with_place("".join(traceback.format_exception_only(error)).strip(), error))

    def _switch_off(self, reason: str) -> None:
        if not self._off:
            self._off = True
            self._warn(
                f"tracker {self._name} was switched off ({' '.join(reason.split())}); the run goes on and its own "
                "files hold every record"
            )


def package_of(config: TrackerConfig) -> str | None:
    """The package that the tracker of ``config`` will import; None without a tracker."""
    return None if config.target is None else str(locate("tracker", config.target).requires)


def build_sink(config: TrackerConfig, *, warn: Callable[[str], None] = log.warning) -> GuardedSink | None:
    """Return the tracker that ``config`` asks for, guarded; None for ``tracker=none``.

    A tracker's class names the package that it needs in ``requires``.  That it is there is checked here, because a
    missing package is a wrong request; whatever happens later is not.

    Raises:
        RequestError: when the class does not exist or its package is not installed.
    """
    if config.target is None:
        return None
    sink_class = locate("tracker", config.target)
    if importlib.util.find_spec(sink_class.requires) is None:
        raise RequestError(
            "tracker",
            f"{config.name} (not installed)",
            f"none, wandb, or a tracker whose package is there: pip install {sink_class.requires}",
        )
    return GuardedSink(sink_class(config, warn=warn), config.name, warn=warn)
