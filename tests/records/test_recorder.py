import dataclasses
from pathlib import Path

import pytest

from runner.privacy.accounting.composition import Spent, compose
from runner.privacy.ledger.ledger import Ledger, PlannedRun
from runner.records.console import SilentConsole
from runner.records.metrics import read_metrics, truncate_after
from runner.records.recorder import Recorder
from runner.records.run_file import FinalMetrics, PrivacySpent, RunRecord
from runner.records.sink import RunInfo


class ListSink:
    """A tracker that keeps what it is given."""

    run_id = None

    def __init__(self):
        self.calls = []

    def start(self, info):
        self.run_id = info.run_id or "new"
        self.calls.append(("start", info.records))

    def log(self, record):
        self.calls.append(("log", record))

    def finish(self, summary, exit_code):
        self.calls.append(("finish", summary, exit_code))


def test_the_file_and_the_trackers_get_the_same_records(tmp_path):
    sinks = [ListSink(), ListSink()]
    recorder = Recorder(tmp_path, sinks, SilentConsole())
    assert recorder.tracker_run_id is None
    recorder.start(RunInfo(run_dir=tmp_path, name="r", config={}), title="t", plan_lines=[])
    recorder.write("train", step=1, epoch=0.5, loss=float("nan"))
    recorder.write("val", step=1, epoch=0.5, loss=2.0)
    recorder.sync()
    assert recorder.count == 2
    recorder.close(RunRecord(name="r", status="failed", metrics=FinalMetrics(train_loss=float("inf"))), 1)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert records == [
        {"step": 1, "epoch": 0.5, "kind": "train", "loss": None},
        {"step": 1, "epoch": 0.5, "kind": "val", "loss": 2.0},
    ]
    metrics = (*("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy"),
               *("test_majority", "test_most_predicted", "best_epoch"))  # fmt: skip
    nothing = dict.fromkeys((*metrics, "samples_per_second", "compile_seconds", "peak_bytes", "seconds"))
    for sink in sinks:
        assert sink.calls == [("start", 0), *(("log", record) for record in records), ("finish", nothing, 1)]
    assert recorder.tracker_run_id == "new"


def test_trackers_are_told_what_the_run_and_its_sweep_have_spent(tmp_path):
    ledger = Ledger(tmp_path / "ledger", "a" * 64)
    planned = PlannedRun(
        data="digits", examples=1000, identity="1" * 64, name="r", folder="r", sweep="s", private=True,
        sample_rate=0.02, noise_multiplier=1.3, steps=1500, delta=1e-5, epsilon=3.03, accountant="pld",
        adjacency="add or remove one training example", sampling="Poisson", validation="private",
    )  # fmt: skip
    spent = PrivacySpent(epsilon=3.03, delta=1e-5, noise_multiplier=1.3, max_grad_norm=1.0, sample_rate=0.02,
                         steps=1500, accountant="pld", adjacency="add or remove one training example")  # fmt: skip
    told = []
    for number, run in enumerate((planned, planned, dataclasses.replace(planned, sweep=None))):
        sink = ListSink()
        session = ledger.begin(run)
        session.steps = 1500
        session.end("completed", 3.03)
        (tmp_path / str(number)).mkdir()
        recorder = Recorder(tmp_path / str(number), [sink], SilentConsole(), session)
        recorder.start(RunInfo(run_dir=tmp_path, name="r", config={}), title="t", plan_lines=[])
        recorder.close(RunRecord(name="r", status="completed", privacy=spent), 0)
        told.append({key: value for key, value in sink.calls[-1][1].items() if value is not None})
    together = [compose([Spent(sample_rate=0.02, noise_multiplier=1.3, steps=1500)] * n, delta=1e-5) for n in (1, 2)]
    own = {"epsilon": 3.03, "delta": 1e-5}
    assert told[:2] == [own | {"sweep_epsilon": so_far.epsilon, "sweep_delta": 1e-5} for so_far in together]
    assert told[2] == own


def test_a_resumed_run_tells_the_trackers_where_it_goes_on(tmp_path):
    for resumed in (False, True):
        truncate_after(tmp_path / "metrics.jsonl", 1)
        sink = ListSink()
        recorder = Recorder(tmp_path, [sink], SilentConsole())
        run_id = "old" if resumed else None
        recorder.start(RunInfo(run_dir=tmp_path, name="r", config={}, run_id=run_id), title="t", plan_lines=[])
        for step in range(2 if resumed else 0, 4):
            recorder.write("train", step=step, epoch=0)
        recorder.close(RunRecord(name="r", status="completed"), 0)
        assert sink.calls[0] == ("start", 2 if resumed else 0)
        assert recorder.tracker_run_id == ("old" if resumed else "new")
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3]


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    before = list(tmp_path.iterdir())
    recorder = Recorder(None, [], SilentConsole())
    recorder.start(RunInfo(run_dir=tmp_path, name="r", config={}), title="t", plan_lines=[])
    recorder.write("train", step=0, epoch=0, loss=1.0)
    recorder.sync()
    recorder.close(RunRecord(name="r", status="completed"), 0)
    assert recorder.count == 0
    assert list(tmp_path.iterdir()) == before


def test_a_run_that_failed_before_it_started_is_closed_and_shown(tmp_path):
    sink, shown = ListSink(), []

    class Noting(SilentConsole):
        def finish(self, run: RunRecord, run_dir: Path) -> None:
            shown.append((run.status, run_dir))

    Recorder(tmp_path, [sink], Noting()).close(RunRecord(name="r", status="failed", error="early"), 1)
    assert sink.calls == []
    assert shown == [("failed", tmp_path)]


@pytest.mark.parametrize("option", ["wandb", "tensorboard", "none"])
def test_each_option_of_the_group_names_a_tracker_that_can_be_built(option):
    import yaml

    from runner.config.schema import TrackerConfig
    from runner.records.sink import build_sink

    written = yaml.safe_load(Path(__file__).parents[2].joinpath("conf", "tracker", f"{option}.yaml").read_text())
    config = TrackerConfig(target=written.pop("_target_"), **written)
    assert config.name == option
    assert config.mode == "offline"
    assert (build_sink(config) is None) == (option == "none")
