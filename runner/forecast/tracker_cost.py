"""The slowdown of a run by its tracker, whose thread shares the interpreter."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from runner.config.schema import RunConfig
from runner.config.untrusted.targets import locate
from runner.data.cache.folder_cache import scratch_folder
from runner.forecast.machine_load import competing_load
from runner.records.sink import GuardedSink, RunInfo, Sink

_RECORDS = 32
_APART = 0.002
"""Seconds from one record to the next: so many at once would be handed over with fewer changes of the thread."""
_QUIET = 0.05
_PATIENCE = 30.0
"""Seconds to wait for the tracker."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What a run loses to its tracker."""

    start_seconds: float
    """Lost while the tracker is imported and starts."""
    start_work_seconds: float
    """Work of the run that is done meanwhile."""
    record_seconds: float
    """Lost to each record."""

    def seconds(self, work_seconds: float, records: int) -> float:
        """Lost by a run with so much work and so many records, of which the tracker takes up those after its start.

        The others wait until the run has ended.
        """
        if work_seconds <= self.start_work_seconds:
            return self.start_seconds * work_seconds / self.start_work_seconds
        later = 1 - self.start_work_seconds / work_seconds
        return self.start_seconds + later * records * self.record_seconds


USUAL = {
    "runner.records.wandb_sink.WandbSink": Tracking(start_seconds=0.6, start_work_seconds=0.2, record_seconds=0.0008),
}
"""What trackers took where they were tried (docs/results/2026-11-23-plan.md), for estimates.  Others were not."""


class _TimedSink:
    """A sink, and how far it has come."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.started = False
        self.records = 0
        self.failed = False

    @property
    def run_id(self) -> str | None:
        return self._sink.run_id

    def start(self, info: RunInfo) -> None:
        self._watch(self._sink.start, info)
        self.started = True

    def log(self, record: Mapping[str, Any]) -> None:
        self._watch(self._sink.log, record)
        self.records += 1

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        self._sink.finish(summary, exit_code)

    def _watch(self, call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except BaseException:
            self.failed = True
            raise


class _Busy:
    """A thread at work like a small model's: many short calls of torch, each of which lets other threads in."""

    def __init__(self) -> None:
        self._weight = torch.zeros(64, 10, requires_grad=True)
        self._images = torch.ones(64, 64)
        self._work(self._until(_QUIET))
        seconds, pieces = self._work(self._until(_QUIET))
        self._piece = seconds / pieces

    def lost(self, ended: Callable[[], bool]) -> tuple[float, float]:
        """Seconds that the work until ``ended`` took longer than it does alone, and those."""
        seconds, pieces = self._work(ended)
        alone = pieces * self._piece
        return max(0.0, seconds - alone), alone

    def lost_of(self, seconds: float) -> float:
        """Seconds that were lost of so many."""
        return self.lost(self._until(seconds))[0]

    def _work(self, ended: Callable[[], bool]) -> tuple[float, int]:
        begun, pieces = time.perf_counter(), 0
        while pieces == 0 or not ended():
            (self._images @ self._weight).logsumexp(1).sum().backward()
            self._weight.grad = None
            pieces += 1
        return time.perf_counter() - begun, pieces

    @staticmethod
    def _until(seconds: float) -> Callable[[], bool]:
        end = time.perf_counter() + seconds
        return lambda: time.perf_counter() > end


def rehearse_tracker(config: RunConfig, *, neighbours: int) -> Tracking | None:
    """Start the tracker of ``config`` where nothing of it stays, hand it some records and end it, beside busy work.

    ``neighbours`` are more processes of the run on this machine's cores.

    None without a tracker, and for one that does not say how it leaves no trace: that is only imported.  What fails is
    told as in a run.
    """
    tracker = config.tracker
    if tracker.target is None:
        return None
    sink_class = locate("tracker", tracker.target)
    traceless = getattr(sink_class, "traceless", None)
    if traceless is None:
        importlib.import_module(sink_class.requires)
        return None
    warn = logging.getLogger(__name__).warning
    with competing_load(neighbours), scratch_folder(config.data.cache_dir) as folder:
        busy = _Busy()
        sink = _TimedSink(sink_class(dataclasses.replace(tracker, **traceless), warn=warn))
        guarded = GuardedSink(sink, tracker.name, warn=warn)
        end = time.monotonic() + _PATIENCE

        def over() -> bool:
            return sink.failed or time.monotonic() > end

        guarded.start(RunInfo(run_dir=folder, name="rehearsal", config=dataclasses.asdict(config)))
        start, meanwhile = busy.lost(lambda: sink.started or over())
        records = 0.0
        for step in range(1, _RECORDS + 1):
            guarded.log({"kind": "train", "step": step, "epoch": 1.0, "loss": 0.0, "accuracy": 0.0, "lr": 0.0})
            records += busy.lost_of(_APART)
        records += busy.lost(lambda: sink.records == _RECORDS or over())[0]
        guarded.finish({}, 0)
    return Tracking(start_seconds=start, start_work_seconds=meanwhile, record_seconds=records / _RECORDS)
