"""What a tracker takes of its run, as a plan finds it: with the tracker itself, and without a trace."""

import dataclasses
import os
import sys
from types import SimpleNamespace

import pytest

from runner.config.schema import TrackerConfig
from runner.data.cache.folder_cache import cache_folder
from runner.forecast import tracker_cost
from runner.forecast.assess import assess
from runner.forecast.forecast import forecast
from runner.forecast.tracker_cost import Tracking, rehearse_tracker
from runner.records.wandb_sink import WandbSink


class Unknown:
    """A tracker of somebody's own, which may talk to a server."""

    requires = "csv"

    def __init__(self, *_, **__):
        raise AssertionError("nobody knows what this one leaves behind")

    def start(self, *_):
        raise AssertionError("never made")

    log = finish = start


class Broken:
    """A tracker that cannot start."""

    requires = "csv"
    traceless = {}
    run_id = None

    def __init__(self, config, *, warn):
        pass

    def start(self, info):
        raise OSError("no room")

    def log(self, record):
        raise AssertionError("switched off by then")

    finish = log


class Recording(WandbSink):
    """W&B, remembering how it was asked."""

    asked = []

    def __init__(self, config, *, warn):
        super().__init__(config, warn=warn)
        self.asked.append(config)

    def start(self, info):
        super().start(info)
        self.asked.append(info.run_dir)


@pytest.fixture(autouse=True)
def _own_trackers(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", __name__)


def said(caplog):
    """Messages of the product; W&B's own are logged where another test has opened the root logger."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("runner")]


def tracked_by(config, sink):
    return dataclasses.replace(config, tracker=TrackerConfig(target=f"{__name__}.{sink.__name__}", name="one"))


def test_wandb_is_timed_offline_and_leaves_nothing(configure, monkeypatch, tmp_path, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    config = tracked_by(configure("data=synthetic", "tracker=none"), Recording)
    config.tracker.mode = "online"
    environment = dict(os.environ)
    found = rehearse_tracker(config, neighbours=0)
    # what another core does meanwhile costs the run nothing
    assert found.start_seconds >= 0
    assert found.start_work_seconds > 0
    assert found.record_seconds >= 0
    given, folder = Recording.asked
    assert (given.mode, config.tracker.mode) == ("offline", "online")
    assert folder.parent == cache_folder(None)
    assert not folder.exists()
    assert dict(os.environ) == environment
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])
    assert said(caplog) == []


def test_one_that_may_leave_traces_is_only_imported(configure, monkeypatch):
    monkeypatch.delitem(sys.modules, Unknown.requires, raising=False)
    assert rehearse_tracker(tracked_by(configure("tracker=none"), Unknown), neighbours=0) is None
    assert Unknown.requires in sys.modules


def test_one_that_fails_is_told_and_waited_for_no_longer(configure, caplog):
    found = rehearse_tracker(tracked_by(configure("tracker=none"), Broken), neighbours=0)
    assert found.start_seconds < tracker_cost._PATIENCE / 2
    (told,) = said(caplog)
    assert told.startswith("tracker one was switched off (OSError: no room (")
    assert told.endswith("in start)); the run goes on and its own files hold every record")


def test_none_costs_nothing(configure):
    assert rehearse_tracker(configure("tracker=none"), neighbours=0) is None


def test_a_run_that_ends_before_its_tracker_has_started_loses_a_part():
    found = Tracking(start_seconds=0.6, start_work_seconds=0.2, record_seconds=0.001)
    assert found.seconds(0.1, records=1000) == pytest.approx(0.3)
    assert found.seconds(0.2, records=1000) == pytest.approx(0.6)
    assert found.seconds(0.4, records=1000) == pytest.approx(0.6 + 0.5)


def test_a_forecast_has_the_tracker_as_a_part_of_its_own(assessed):
    found = assessed()
    tracked = Tracking(start_seconds=0.5, start_work_seconds=0.0, record_seconds=0.01)
    trained_only = SimpleNamespace(val=None, test=None)
    before, after = (
        forecast(found.plan, trained_only, dataclasses.replace(found.costs, tracking=each), price_per_hour=None).parts
        for each in (None, tracked)
    )
    semantic = found.plan.semantic
    records = semantic.steps // found.plan.performance.log_every + found.plan.epoch_of(semantic.steps - 1)
    assert (before.tracking, after.tracking) == (0.0, pytest.approx(0.5 + records * 0.01))
    assert after.total == pytest.approx(before.total + after.tracking)


def test_an_estimate_counts_wandb_and_no_tracker_that_was_not_tried(configure):
    parts = {
        tracker: assess(configure("data.limit=200", "model=linear", f"tracker={tracker}"), probe=False).forecast.parts
        for tracker in ("none", "tensorboard", "wandb")
    }
    assert (parts["none"].tracking, parts["tensorboard"].tracking) == (0.0, 0.0)
    assert parts["wandb"].tracking > 0
