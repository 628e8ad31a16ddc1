"""A grid with failing cells, its driver killed with ``kill -9`` and started again, until it is through.

``python -m tests.sweeping.campaign`` kills the driver of 24 cells twice; the tests do the same with fewer.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.records.metrics import read_metrics
from tests.conftest import ROOT
from tests.faults.forked_runs import descendants

TINY = (
    "data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16", "model=linear",
    "trainer.epochs=40", "trainer.log_every=1", "hardware=cpu", "hardware.threads=1", "tracker=none",
)  # fmt: skip
_ENDS_WITHIN = 300.0


def start(folder, *arguments):
    """A driver at work in ``folder``."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "--multirun", *TINY, *arguments, "hydra.sweep.dir=grid"],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def rows(folder):
    """The rows of the table; none before it is there."""
    table = folder / "grid" / "table.csv"
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def kill_in_a_cell(process, folder, cells, draw):
    """Kill the driver some time after ``cells`` have ended, and wait until all that it has started is gone."""
    end = time.monotonic() + _ENDS_WITHIN
    while len([row for row in rows(folder) if row["status"] in ("completed", "failed")]) < cells:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the sweep is too slow"
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.5))
    below = descendants(process.pid)
    process.kill()
    process.communicate()
    while any(Path(f"/proc/{pid}/stat").exists() for pid in below):
        assert time.monotonic() < end, "an orphan goes on without its driver"
        time.sleep(0.01)


def campaign(folder, *, rates, seeds, kills, draw):
    """Run a grid of ``rates`` x ``seeds``, of which the rate 1e38 fails; returns what the driver said at last.

    Raises:
        AssertionError: a result is missing, was made twice or was written over, or a failure has no cause.
    """
    grid = (f"seed={','.join(map(str, range(seeds)))}", f"optimizer.lr={','.join(rates)}")
    total = len(rates) * seeds
    finished = {}
    for cells in kills:
        kill_in_a_cell(start(folder, *grid), folder, cells, draw)
        for row in rows(folder):
            if row["status"] == "completed":
                finished.setdefault(row["cell"], version(folder, row["cell"]))
    process = start(folder, *grid)
    _, err = process.communicate(timeout=_ENDS_WITHIN)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    table = rows(folder)
    assert [row["cell"] for row in table] == [str(number) for number in range(total)]
    failed = [row for row in table if row["optimizer.lr"] == "1e+38"]
    done = [row for row in table if row not in failed]
    assert {row["status"] for row in done} == {"completed"}
    assert {row["status"] for row in failed} == {"failed"}
    assert all("the loss of" in row["error"] for row in failed)
    assert f"error: {len(failed)} of {total} cells failed" in err
    for cell, before in finished.items():
        assert version(folder, cell) == before, f"cell {cell} was made twice"
    for row in done:
        records = read_metrics(folder / "grid" / row["cell"] / "metrics.jsonl")
        kinds = [(record["kind"], record["step"]) for record in records]
        assert len(kinds) == len(set(kinds)), f"cell {row['cell']} has a record twice"
    return len(done), len(failed), len(finished)


def version(folder, cell):
    """Which version of its record a cell holds."""
    found = (folder / "grid" / cell / "run.json").stat()
    return found.st_ino, found.st_mtime_ns


def main():
    """Run the campaign and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    draw = random.Random(parser.parse_args().seed)
    kills = sorted(draw.sample(range(2, 20), 2))
    rates = ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "1e38")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        done, failed, before = campaign(Path(folder), rates=rates, seeds=3, kills=kills, draw=draw)
        seconds = time.monotonic() - begun
    print(f"driver killed after {kills} cells; {done} results and {failed} failures with cause in {seconds:.0f} s")
    print(f"{before} cells were finished before the last start, and none of them was touched")


if __name__ == "__main__":
    main()
