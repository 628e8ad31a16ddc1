"""What the trackers were given is what the run's own files hold."""

import json

import pytest

from runner.internals.wandb_file import read_wandb_file
from runner.records.metrics import read_metrics
from runner.records.wandb_sink import from_row

RECIPE = ("data.limit=128", "trainer.epochs=2", "trainer.log_every=3", "hardware.threads=1", "hydra.run.dir=out")


@pytest.mark.parametrize("recipe", [("precision=fp16",), ("trainer=dp", "privacy.epsilon=5")], ids=lambda r: r[0])
def test_wandb_holds_every_record_the_config_and_the_summary(runner, tmp_path, recipe):
    done = runner(*RECIPE, *recipe)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb")
    tracked = read_wandb_file(file)
    records = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert len(records) > 5
    assert {record["kind"] for record in records} == {"train", "val", "test"}
    assert [from_row(row) for row in tracked.history] == records
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {name: tracked.summary[name] for name in run["metrics"]} == run["metrics"]
    spent = run["privacy"]
    assert (tracked.summary.get("epsilon"), tracked.summary.get("delta")) == (
        (None, None) if spent is None else (spent["epsilon"], spent["delta"])
    )
    assert "sweep_epsilon" not in tracked.summary
    assert tracked.config["trainer"]["log_every"] == 3
    assert tracked.exit_code == 0


def test_nothing_is_said_on_standard_error_but_the_progress(runner):
    done = runner(*RECIPE, "trainer.epochs=1")
    assert done.returncode == 0
    assert "wandb" not in done.stderr.lower()
    assert "warning" not in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 7, done.stderr


def test_dp_logs_its_budget_each_epoch(runner):
    done = runner(*RECIPE, "trainer=dp", "privacy.epsilon=2", "tracker=none")
    lines = [line for line in done.stderr.splitlines() if line.startswith("Epoch")]
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2: ε=")
    assert "δ=1e-05" in lines[0]
    assert lines[1].startswith("Epoch 2/2: ε=2.00, δ=1e-05")
