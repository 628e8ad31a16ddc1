import threading
import time
from pathlib import Path

import pytest

from runner.config.schema import TrackerConfig
from runner.errors import RequestError
from runner.records.sink import GuardedSink, RunInfo, build_sink

INFO = RunInfo(run_dir=Path(), name="run", config={})


class Tracker:
    """A tracker that notes what it is told and fails or waits where it is told to."""

    requires = "json"
    made = []

    def __init__(self, config=None, *, warn=None, fails_at=None, error=None, waits_at=None, wait=None):
        self.run_id = "identity"
        self.calls = []
        self.fails_at, self.error, self.waits_at, self.wait = fails_at, error, waits_at, wait
        Tracker.made.append(self)

    def _called(self, name, *values):
        self.calls.append((name, *values))
        if name == self.waits_at:
            self.wait.wait()
        if name == self.fails_at:
            raise self.error

    def start(self, info):
        self._called("start", info)

    def log(self, record):
        self._called("log", record)

    def finish(self, summary, exit_code):
        self._called("finish", summary, exit_code)


def drive(tracker, **options):
    warnings = []
    guard = GuardedSink(tracker, "mine", warn=warnings.append, **options)
    guard.start(INFO)
    for step in range(3):
        guard.log({"step": step})
    guard.finish({"test_loss": 1.0}, 0)
    return warnings


def test_calls_arrive_in_order():
    tracker = Tracker()
    warnings = drive(tracker)
    records = [("log", {"step": step}) for step in range(3)]
    assert tracker.calls == [("start", INFO), *records, ("finish", {"test_loss": 1.0}, 0)]
    assert warnings == []


@pytest.mark.parametrize("error", [ValueError("two\nlines"), SystemExit(3), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize(("place", "calls"), [("start", 1), ("log", 2), ("finish", 5)])
def test_whatever_a_tracker_raises_switches_it_off_and_warns_once(place, calls, error):
    tracker = Tracker(fails_at=place, error=error)
    warnings = drive(tracker)
    assert len(tracker.calls) == calls
    assert len(warnings) == 1
    assert f"tracker mine was switched off ({type(error).__name__}" in warnings[0]
    assert "\n" not in warnings[0]


@pytest.mark.parametrize("place", ["start", "log", "finish"])
def test_a_tracker_that_hangs_holds_nothing_up(place):
    release = threading.Event()
    begin = time.monotonic()
    warnings = drive(Tracker(waits_at=place, wait=release), patience=0.2)
    assert time.monotonic() - begin < 2
    assert warnings == [
        "tracker mine was switched off (still busy after 0.2 s); the run goes on and its own files hold every record"
    ]
    release.set()


def test_a_slow_start_is_not_waited_for():
    release = threading.Event()
    tracker = Tracker(waits_at="start", wait=release)
    guard = GuardedSink(tracker, "mine")
    begin = time.monotonic()
    guard.start(INFO)
    guard.log({"step": 0})
    assert time.monotonic() - begin < 0.1
    release.set()
    guard.finish({}, 0)
    assert [name for name, *_ in tracker.calls] == ["start", "log", "finish"]


def test_the_identity_is_known_before_the_tracker_is_up():
    release = threading.Event()
    for resumed in (None, "old"):
        guard = GuardedSink(Tracker(waits_at="start", wait=release), "mine")
        guard.start(RunInfo(run_dir=Path(), name="run", config={}, run_id=resumed))
        assert guard.run_id == (resumed or "identity")
    release.set()


def test_none_is_no_tracker():
    assert build_sink(TrackerConfig()) is None


def test_a_tracker_of_the_users_own_is_found_and_guarded(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", __name__)
    Tracker.made.clear()
    sink = build_sink(TrackerConfig(target=f"{__name__}.Tracker", name="mine"))
    assert isinstance(sink, GuardedSink)
    assert len(Tracker.made) == 1


class Missing(Tracker):
    requires = "a_package_that_nobody_has"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            f"{__name__}.Missing",
            "tracker: got mine (not installed), expected none, wandb, or a tracker whose package is there: "
            "pip install a_package_that_nobody_has",
        ),
        (
            "runner.records.wandb_sink.Nope",
            "tracker._target_: got runner.records.wandb_sink.Nope, expected the import path of",
        ),
        ("runner.records.sink.Nope", "tracker._target_: got runner.records.sink.Nope, expected an import path under"),
        ("nodots", "tracker._target_: got nodots, expected an import path under"),
    ],
)
def test_a_tracker_that_is_not_there_is_a_wrong_request(target, message, monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", __name__)
    with pytest.raises(RequestError) as caught:
        build_sink(TrackerConfig(target=target, name="mine"))
    assert str(caught.value).startswith(message)
