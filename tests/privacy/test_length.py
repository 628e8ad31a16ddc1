"""Noise and budget given, the length left open: a run trains as long as its epsilon lasts, and no step longer."""

import json

import pytest

from runner.errors import RequestError
from runner.privacy.accounting.accountants import epsilon

OPEN = ("trainer=dp", "model=linear", "data.limit=64", "data.batch_size=16", "privacy.noise_multiplier=3",
        "privacy.epsilon=2", "trainer.epochs=null", "scheduler=cosine", "trainer.log_every=1",
        "trainer.eval_every=1000", "trainer.save_every=1000", "hardware.threads=1")  # fmt: skip


@pytest.fixture
def finished(train):
    run_dir = train(*OPEN)
    return run_dir, json.loads((run_dir / "run.json").read_text())


def test_the_run_stops_before_the_step_that_would_pass_its_budget(train, finished):
    run_dir, run = finished
    spent, steps = run["privacy"], run["steps"]
    assert run["status"] == "budget_exhausted"
    assert steps == spent["steps"] == run["plan"]["semantic"]["steps"]
    assert run["metrics"]["test_accuracy"] is not None, "it is finished like any other"
    mechanism = {"sample_rate": 16 / 64, "noise_multiplier": 3.0, "delta": spent["delta"]}
    assert spent["epsilon"] == epsilon("pld", steps=steps, **mechanism) <= 2.0
    assert epsilon("pld", steps=steps + 1, **mechanism) > 2.0
    # the schedule is that of the length that was found: half a cosine, to nearly nothing
    records = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    rates = [record["lr"] for record in records if record["kind"] == "train"]
    assert rates[-1] < 0.01 * rates[0]
    written = (run_dir / "run.json").read_bytes()
    train(*OPEN, run_dir=run_dir)
    assert (run_dir / "run.json").read_bytes() == written, "a finished run is left as it is"


def test_the_same_mechanism_with_its_length_given_is_completed(train, finished):
    _, run = finished
    given = [key for key in OPEN if not key.startswith("privacy.epsilon")]
    fixed = json.loads((train(*given, f"trainer.steps={run['steps']}") / "run.json").read_text())
    assert fixed["status"] == "completed"
    assert fixed["privacy"] == run["privacy"]
    assert [run["plan"]["semantic"]["privacy"]["solved"] for run in (run, fixed)] == ["steps", "epsilon"]


def test_a_budget_below_one_step_is_refused(train):
    with pytest.raises(RequestError, match=r"privacy\.epsilon: got 0\.01, expected at least 0\.\d+, which one update"):
        train(*OPEN, "privacy.epsilon=0.01")


def test_a_budget_without_end_is_refused(train):
    endless = ("privacy.noise_multiplier=10000", "privacy.epsilon=10000", "privacy.accountant=rdp")
    with pytest.raises(RequestError, match=r"trainer\.epochs: got null, expected a number: more than 10,000,000"):
        train(*OPEN, *endless)
