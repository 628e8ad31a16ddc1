"""Private sweeps from the command line to ``privacy.json``: composed, limited, and all of it in the ledger."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from runner.privacy.accounting.calibration import solve_noise_multiplier
from runner.privacy.accounting.composition import Spent, compose
from runner.privacy.ledger.ledger import find_ledgers
from runner.training.checkpointing import save_schedule
from tests.conftest import ROOT, last_of_each

TINY = (
    "trainer=dp",
    "data=synthetic",
    "data.num_train=64",
    "data.image_size=8",
    "data.batch_size=16",
    "model=linear",
    "trainer.steps=4",
    "privacy.epsilon=3",
    "scheduler=constant",
    "hardware=cpu",
    "hardware.threads=1",
    "tracker=none",
)
GRID = ("--multirun", *TINY, "hydra.sweep.dir=grid")


def entries(tmp_path):
    (ledger,) = find_ledgers(tmp_path / "data" / "recipe-runner" / "ledger")
    return ledger.entries()


def spending(tmp_path):
    found = json.loads((tmp_path / "grid" / "privacy.json").read_text())
    (data,) = found["data"]
    return data


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *last_of_each(arguments)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_grid_that_would_pass_its_limit_is_refused_before_its_first_cell(command, tmp_path):
    noise = solve_noise_multiplier("pld", epsilon=3, delta=1e-5, sample_rate=16 / 41, steps=4)
    cell = Spent(sample_rate=16 / 41, noise_multiplier=noise, steps=4)
    together = [compose([cell] * count, delta=1e-5).epsilon for count in range(1, 10)]
    fits = sum(epsilon <= 8 for epsilon in together)
    assert 2 <= fits < 9, "the limit must bite for this test to tell anything"
    code, out, err = command(*GRID, "optimizer.lr=0.05,0.1,0.2", "seed=0,1,2", "privacy.sweep_epsilon=8")
    assert (code, out) == (2, "")
    assert err == (
        f"error: privacy.sweep_epsilon: got 9 cells that compose to ε={math.ceil(100 * together[8]) / 100:.2f} (pld,"
        f" δ=1e-05), expected at most 8, which the first {fits} cells keep to\n"
    )
    assert not (tmp_path / "grid").exists()
    assert not (tmp_path / "data").exists(), "nothing was recorded either"


def test_a_sweep_started_again_in_its_folder_goes_on_counting(command, tmp_path):
    code, out, _ = command(*GRID, "seed=0,1")
    assert code == 0
    for told in (
        "each cell              ε=3.00",
        "publishing all cells   ε=",
        "publishing the best    ε=",
        "composition: every cell was looked at",
        "evaluations on private validation data without",
    ):
        assert told in out
    before = spending(tmp_path)["publish_all"]["epsilon"]
    code, _, err = command(*GRID, "seed=0,1,2,3", f"privacy.sweep_epsilon={before + 0.1}")
    assert code == 2, "cells that were refused are no failures"
    assert "2 of 4 cells refused: cell 2 (" in err
    assert "privacy.sweep_epsilon: got a cell with which all compose to ε=" in err
    assert "Traceback" not in err
    with (tmp_path / "grid" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["completed"] * 2 + ["failed"] * 2
    assert not (tmp_path / "grid" / "2" / "metrics.jsonl").exists(), "it must not have trained"
    assert [entry.status for entry in entries(tmp_path)] == ["completed"] * 2
    assert spending(tmp_path)["publish_all"]["epsilon"] == spending(tmp_path)["publish_best"]["epsilon"] == before
    # a cell that was refused has not failed: with more to spend it runs
    assert command(*GRID, "seed=0,1,2", f"privacy.sweep_epsilon={before + 3}")[0] == 0
    assert [entry.status for entry in entries(tmp_path)] == ["completed"] * 3


def test_a_failure_beside_a_refusal_is_a_failure(command, tmp_path):
    sources = [argument for argument in GRID if not argument.startswith("data")]
    cells = ("data=image_folder,digits", "seed=0,1", "data.limit=64", "data.batch_size=16")
    # what the cells of missing data would spend cannot be known beforehand, so the others are let run one by one
    code, _, err = command(*sources, *cells, "privacy.sweep_epsilon=3.5")
    assert code == 1
    assert "3 of 4 cells failed" in err
    assert [entry.status for entry in entries(tmp_path)] == ["completed"]


def test_a_run_that_fails_counts_with_the_steps_it_did(command, tmp_path, monkeypatch):
    from runner.errors import RunError

    def fail(*arguments, **settings):
        raise RunError("the disk is full")

    # at the first checkpoint, after an epoch of 3 steps
    monkeypatch.setattr(save_schedule, "save_checkpoint", fail)
    assert command(*TINY, "hydra.run.dir=run", "trainer.steps=12", "trainer.save_every=1")[0] == 1
    (entry,) = entries(tmp_path)
    assert (entry.status, entry.steps) == ("failed", 3)
    assert 0 < entry.epsilon < entry.planned.epsilon


def test_cells_without_privacy_and_cells_that_are_not_private_are_named(command, tmp_path):
    mixed = [argument for argument in GRID if argument not in ("trainer=dp", "privacy.epsilon=3")]
    code, out, _ = command(*mixed, "trainer=standard,dp")
    assert code == 0
    assert "1 cell ran without privacy, which no ε covers" in out
    assert [entry.planned.private for entry in entries(tmp_path)] == [True]


def test_a_run_whose_noise_anyone_can_compute_is_not_private_wherever_its_epsilon_would_stand(command, tmp_path):
    code, out, err = command(*TINY, "privacy.unsafe_noise_seed=1", "hydra.run.dir=single")
    assert code == 0
    assert "ε" not in "".join(line for line in (out + err).splitlines() if "does not cover" not in line)
    assert (out + err).count("NOT private") >= 4, "plan, warning, progress and result"
    run = json.loads((tmp_path / "single" / "run.json").read_text())
    assert (run["privacy"]["epsilon"], run["privacy"]["sampling"]) == (None, "Poisson")
    assert "NOT private" in " ".join(run["notes"])
    metrics = [json.loads(line) for line in (tmp_path / "single" / "metrics.jsonl").read_text().splitlines()]
    assert {record["epsilon"] for record in metrics if record["kind"] == "val"} == {None}
    (entry,) = entries(tmp_path)
    assert not entry.planned.private


def test_what_is_cut_from_private_images_is_not_public(command, tmp_path):
    code, _, err = command(*TINY, "privacy.validation=public", "hydra.run.dir=refused")
    assert code == 2
    assert "error: privacy.validation: got public for images cut from the private training images" in err
    assert not (tmp_path / "ledger").exists()


def test_public_validation_data_may_steer_and_are_not_noted(command, tmp_path):
    steering = ("trainer.patience=1", "trainer.test_checkpoint=best")
    code, _, err = command(*TINY, *steering, "hydra.run.dir=refused")
    assert code == 2
    assert "privacy.validation=public" in err
    steps = ("trainer.steps=40", "trainer.min_delta=1")
    public = ("privacy.validation=public", "data.num_val=32", "hydra.run.dir=run")
    assert command(*TINY, *steering, *steps, *public)[0] == 0
    (entry,) = entries(tmp_path)
    assert entry.status == "completed"
    assert 0 < entry.steps < 40, "stopped early, and counted so"
    assert entry.epsilon < entry.planned.epsilon
    assert entry.evaluated == set()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((*TINY, "hydra.run.dir=runs/1", "privacy.sweep_epsilon=8"), "privacy.sweep_epsilon"),
        ((*GRID, "seed=0,1", "privacy.sweep_epsilon=2"), "privacy.sweep_epsilon"),
        ((*TINY, "hydra.run.dir=runs/1", "privacy.ledger_dir=/proc/ledger"), "privacy.ledger_dir"),
        ((*TINY, "hydra.run.dir=runs/1", "privacy.validation=secret"), "privacy.validation"),
        ((*TINY, "hydra.run.dir=runs/1", "hardware.processes=2", "privacy.ledger_dir=/proc/x"), "privacy.ledger_dir"),
    ],
    ids=["single", "cell-above-limit", "read-only", "word", "two-processes"],
)
def test_refusals_take_one_line_and_leave_nothing(command, tmp_path, arguments, key):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {key}: got ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "grid").exists()


def wait_for(condition, process):
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit, "the run is too slow"
        time.sleep(0.02)


def test_a_run_that_was_killed_and_resumed_is_one_entry(tmp_path):
    arguments = (*TINY, "trainer.steps=4000", "trainer.log_every=4", "trainer.eval_every=1000", "trainer.save_every=5")
    long = (*arguments, "hydra.run.dir=run")
    process = start(tmp_path, *long)
    wait_for((tmp_path / "run" / "checkpoints" / "last").exists, process)
    process.kill()
    process.communicate()
    (entry,) = entries(tmp_path)
    assert (entry.status, entry.steps) == ("running", 4000), "nobody knows how far it came"
    again = start(tmp_path, *long)
    last = tmp_path / "run" / "checkpoints" / "last"
    before = last.readlink()
    wait_for(lambda: last.readlink() != before, again)
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=60)
    assert again.returncode == 75, err
    (resumed,) = entries(tmp_path)
    assert resumed.id == entry.id
    assert (resumed.status, resumed.steps) == ("interrupted", 4000)


def test_two_sweeps_write_at_once(tmp_path):
    processes = [start(tmp_path, *GRID[:-1], "seed=0,1,2", f"hydra.sweep.dir={name}") for name in ("one", "two")]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    found = entries(tmp_path)
    assert [entry.status for entry in found] == ["completed"] * 6
    for name in ("one", "two"):
        told = json.loads((tmp_path / name / "privacy.json").read_text())
        assert len(told["data"][0]["cells"]) == 3
        assert told["sweep"] in {entry.planned.sweep for entry in found}
