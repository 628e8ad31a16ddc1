import json
import time
from datetime import datetime, timedelta

import pytest

from runner.errors import RunError
from runner.records.run_file import (
    FinalMetrics,
    Memory,
    PrivacySpent,
    RunRecord,
    Throughput,
    read_run,
    write_run,
)

SPENT = PrivacySpent(
    epsilon=2.99,
    delta=1e-5,
    noise_multiplier=1.3,
    max_grad_norm=1.0,
    sample_rate=0.02,
    steps=1500,
    accountant="pld",
    adjacency="add_remove",
)


def test_the_contract_of_keys(tmp_path):
    begun = RunRecord(name="r", status="running", plan={"steps": 10}, environment={"python": "3"})
    write_run(tmp_path, begun)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    ended = begun.end(
        "completed",
        begun=time.monotonic(),
        metrics=FinalMetrics(train_loss=float("nan"), test_accuracy=0.97),
        throughput=Throughput(samples_per_second=1000.0),
        memory=Memory(peak_bytes=5),
        privacy=SPENT,
    )
    write_run(tmp_path, ended)
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["metrics"] == {
        "train_loss": None,
        "val_loss": None,
        "val_accuracy": None,
        "test_loss": None,
        "test_accuracy": 0.97,
        "test_majority": None,
        "test_most_predicted": None,
        "best_epoch": None,
    }
    assert found["throughput"] == {"samples_per_second": 1000.0, "compile_seconds": None}
    assert found["memory"] == {"peak_bytes": 5}
    assert set(found["privacy"]) == {
        "epsilon",
        "delta",
        "noise_multiplier",
        "max_grad_norm",
        "sample_rate",
        "steps",
        "accountant",
        "adjacency",
        "sampling",
    }
    assert {"status", "plan", "environment", "error", "name", "started", "finished", "seconds"} <= set(found)
    assert datetime.fromisoformat(found["started"]).utcoffset() == timedelta(0)
    assert found["seconds"] >= 0


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted", "budget_exhausted"])
def test_a_record_is_read_as_it_was_written(tmp_path, status):
    record = RunRecord(name="r", status="running", plan={"a": [1]}, privacy=SPENT, notes=("n",)).end(
        status, error="it broke", skipped_steps=3
    )
    write_run(tmp_path, record)
    assert read_run(tmp_path) == record


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status": "completed"}', "null"])
def test_what_is_no_record_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json: not a record of a run.*; without that file, the command"):
        read_run(tmp_path)


def test_an_unknown_status_is_refused(tmp_path):
    write_run(tmp_path, RunRecord(name="r", status="fine"))
    with pytest.raises(RunError, match="unknown status 'fine'"):
        read_run(tmp_path)


def test_a_run_that_never_started_has_no_record(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_run(tmp_path)


def test_a_refusal_is_told_from_a_failure_by_its_kind(tmp_path):
    begun = RunRecord(name="r", status="running", plan={"steps": 10})
    failed = begun.fail("data.root: got x, expected y", None)
    refused = begun.fail("no words of a refusal", "privacy.sweep_epsilon")
    assert (failed.error_kind, failed.error_key, failed.refused) == ("run", None, False)
    assert (refused.error_kind, refused.error_key, refused.refused) == ("request", "privacy.sweep_epsilon", True)
    write_run(tmp_path, refused)
    assert read_run(tmp_path).refused
    assert not refused.end("interrupted").refused


@pytest.mark.parametrize(("plan", "refused"), [({}, True), ({"steps": 10}, False)])
def test_a_failure_of_an_earlier_version_that_never_began_may_be_asked_for_again(tmp_path, plan, refused):
    write_run(tmp_path, RunRecord(name="r", status="running", plan=plan).fail("why", None))
    found = json.loads((tmp_path / "run.json").read_text())
    del found["error_kind"], found["error_key"]
    (tmp_path / "run.json").write_text(json.dumps(found))
    record = read_run(tmp_path)
    assert record.error_kind is None
    assert record.refused == refused
