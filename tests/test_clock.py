"""A clock that is set back in mid-run, or stands in another century, changes dates and nothing else."""

import itertools
import json
import time

from runner.records import run_file
from tests.faults.final_state import differences, final_state

RECIPE = ("data.limit=60", "data.batch_size=16", "model=linear", "trainer.epochs=3", "trainer.save_every=1",
          "hardware.threads=1")  # fmt: skip


def test_a_clock_that_runs_backwards(train, monkeypatch):
    whole = final_state(train(*RECIPE))
    days = itertools.count()
    monkeypatch.setattr(run_file, "utc_now", lambda: f"19{99 - next(days):02}-01-01T00:00:00.000+00:00")
    backwards = itertools.count(2_000_000_000, -86_400)
    monkeypatch.setattr(time, "time", lambda: float(next(backwards)))
    monkeypatch.setattr(time, "time_ns", lambda: next(backwards) * 10**9)
    run_dir = train(*RECIPE)
    assert not differences(final_state(run_dir), whole)
    run = json.loads((run_dir / "run.json").read_text())
    assert run["finished"] < run["started"]
    assert run["seconds"] >= 0
    assert run["throughput"]["samples_per_second"] > 0
