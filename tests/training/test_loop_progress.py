"""What a run shows of itself while it works: each update, what it waits for, and no figure read for that alone."""

import pytest

from runner.execution import job
from runner.records.console import SilentConsole
from runner.records.metrics import METRICS_FILE
from runner.training import loop
from runner.training.checkpointing.save_schedule import Saving
from runner.training.loop_progress import LoopProgress
from runner.training.running_metrics import RunningMetrics
from runner.training.step import TrainStep

RECIPE = ("data.limit=256", "data.batch_size=16", "model=linear", "trainer.epochs=2", "hardware=cpu",
          "hardware.threads=1", "trainer.save_every=1")  # fmt: skip


class Watcher(SilentConsole):
    """Looks at the run after each update, as a thread may, and at each moment that another test picks."""

    def __init__(self):
        self.waited, self.seen, self.progress, self.closed = [], [], None, 0

    def wait(self, what):
        self.waited.append(what)

    def train(self, progress):
        self.progress = progress

    def now(self):
        """What the run says at this moment that it does."""
        return str(self.progress().waiting)

    def close(self):
        self.closed += 1


@pytest.fixture
def watcher(monkeypatch):
    watcher = Watcher()
    monkeypatch.setattr(job, "make_console", lambda *_, **__: watcher)

    def set_attribute(progress, name, value):
        updated = name == "done" and vars(progress).get("done") == value - 1
        object.__setattr__(progress, name, value)
        if updated:
            watcher.seen.append(watcher.progress())

    monkeypatch.setattr(LoopProgress, "__setattr__", set_attribute)
    return watcher


def test_every_update_can_be_seen_and_what_comes_before_and_between(train, watcher, monkeypatch):
    moments, reads = [], []
    noted = {(RunningMetrics, "read"): lambda: reads.append(0)}
    noted |= dict.fromkeys([(loop, "evaluate"), (Saving, "save")], lambda: moments.append(watcher.now()))
    for (owner, name), note in noted.items():
        monkeypatch.setattr(owner, name, before(note, getattr(owner, name)))
    folder = train(*RECIPE)
    assert watcher.waited[:2] == ["loading data", "measuring what suits this machine"]
    assert [shown.step for shown in watcher.seen] == list(range(1, 33)), "16 updates an epoch, each of them"
    assert [shown.epoch for shown in watcher.seen] == [1] * 16 + [2] * 16
    assert str(watcher.seen[0].waiting) == "first step"
    assert {shown.waiting for shown in watcher.seen[1:]} == {None}
    assert watcher.seen[0].seconds_left is None
    assert all(shown.seconds_left > 0 for shown in watcher.seen[2:-1])
    assert moments == ["evaluating", "saving", "evaluating", "saving", "testing"]
    records = (folder / METRICS_FILE).read_text().count('"kind": "train"')
    assert len(reads) == records == 2, "the device is asked for a record, never for the screen"
    assert watcher.closed == 1


def before(note, act):
    def noted(*args, **more):
        note()
        return act(*args, **more)

    return noted


def test_a_resumed_run_begins_with_a_first_step_again(train, watcher, monkeypatch, tmp_path):
    (folder := tmp_path / "run").mkdir()
    right = TrainStep.run

    def fail(self, step, *, stop=False):
        if step == 20:
            raise KeyboardInterrupt
        return right(self, step, stop=stop)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "run", fail)
        with pytest.raises(KeyboardInterrupt):
            train(*RECIPE, run_dir=folder)
    assert watcher.closed == 1, "the line is gone before the error is told"
    watcher.seen.clear()
    train(*RECIPE, run_dir=folder)
    assert [shown.step for shown in watcher.seen] == list(range(17, 33))
    assert str(watcher.seen[0].waiting) == "first step"
