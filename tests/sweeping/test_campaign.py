"""The driver of a grid killed with ``kill -9``, and stopped with Ctrl-C; ``make kills`` is the long form."""

import random
import signal
import time

from runner.records.metrics import read_metrics
from tests.sweeping.campaign import campaign, rows, start


def test_a_grid_whose_driver_is_killed_loses_and_repeats_nothing(tmp_path):
    done, failed, before = campaign(tmp_path, rates=("0.05", "1e38"), seeds=2, kills=[1], draw=random.Random(1))
    assert (done, failed) == (2, 2)
    assert before >= 1


def test_ctrl_c_saves_the_cell_under_way_and_the_same_command_goes_on(tmp_path):
    arguments = ("trainer.epochs=400", "seed=0")
    process = start(tmp_path, *arguments)
    records = tmp_path / "grid" / "0" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not (records.exists() and records.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the sweep is too slow"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert "Traceback" not in out + err
    assert "[0] interrupted; the same command goes on" in out
    assert [row["status"] for row in rows(tmp_path)] == ["interrupted"]
    again = start(tmp_path, *arguments)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert [row["status"] for row in rows(tmp_path)] == ["completed"]
    steps = [record["step"] for record in read_metrics(records)]
    assert steps == sorted(steps)
