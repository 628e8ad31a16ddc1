"""The command line from end to end: real runs of a linear model on made-up images."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.report.cells import read_sweep
from tests.conftest import last_of_each

TINY = [
    "data=synthetic",
    "data.num_train=64",
    "data.image_size=8",
    "data.batch_size=16",
    "model=linear",
    "trainer.steps=2",
    "scheduler=constant",
    "hardware=cpu",
    "hardware.threads=1",
    "tracker=none",
]


def status(folder):
    return json.loads((folder / "run.json").read_text())["status"]


def test_one_run(command, tmp_path):
    code, _, err = command(*TINY, "hydra.run.dir=run")
    assert code == 0
    assert "error" not in err
    run = tmp_path / "run"
    assert status(run) == "completed"
    assert {"run.log", ".hydra", "metrics.jsonl", "run.json"} <= {path.name for path in run.iterdir()}
    assert "[HYDRA]" not in err


def test_a_run_that_fails_on_the_way(command, tmp_path):
    code, _, err = command(*TINY, "hydra.run.dir=run", "optimizer.lr=1e38", "trainer.steps=20")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert "Traceback" in (tmp_path / "run" / "run.log").read_text()
    assert status(tmp_path / "run") == "failed"


def test_missing_data_leave_no_folder(command, tmp_path):
    code, out, err = command("data=image_folder", "data.root=nowhere", "tracker=none", "hydra.run.dir=runs/1")
    assert (code, out) == (2, "")
    assert err.startswith("error: data.root: got nowhere")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_holds_an_earlier_run_stays(command, tmp_path):
    assert command(*TINY, "hydra.run.dir=run")[0] == 0
    assert command("data=image_folder", "data.root=nowhere", "tracker=none", "hydra.run.dir=run")[0] == 2
    assert status(tmp_path / "run") == "completed"


def test_a_failing_cell_does_not_stop_the_others(command, tmp_path):
    arguments = ["--multirun", *TINY, "trainer.steps=20", "hydra.sweep.dir=sweep", "optimizer.lr=1e38,0.1"]
    code, out, err = command(*arguments)
    assert code == 1
    assert err.splitlines()[-1].startswith("error: 1 of 2 cells failed: cell 0 (")
    assert "Traceback" not in err
    assert "(2 of 2 done)" in out
    with (tmp_path / "sweep" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["failed", "completed"]
    assert rows[0]["error"]


def test_a_cell_without_its_data_is_in_the_table_with_its_reason(command, tmp_path):
    sources = [argument for argument in TINY if not argument.startswith("data")]
    arguments = ["--multirun", *sources, "data.limit=40", "hydra.sweep.dir=sweep", "data=image_folder,digits"]
    assert command(*arguments)[0] == 1
    assert status(tmp_path / "sweep" / "0") == "failed"
    assert "data.root" in (tmp_path / "sweep" / "table.csv").read_text()
    assert status(tmp_path / "sweep" / "1") == "completed"


def test_a_wrong_cell_refuses_the_sweep_before_the_first_starts(command, tmp_path):
    code, out, err = command("--multirun", *TINY, "seed=0,1", "trainer.clip_norm=1,0", "hydra.sweep.dir=sweep")
    assert (code, out) == (2, "")
    assert "cell 1" in err
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_file_makes_a_multirun_by_itself(command, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "seeds.yaml").write_text("hydra: {mode: MULTIRUN, sweeper: {params: {seed: '3,4'}}}\n")
    code, out, _ = command(*TINY, "sweep=seeds", "hydra.sweep.dir=sweep")
    assert code == 0
    assert "(2 of 2 done)" in out
    assert [json.loads((tmp_path / "sweep" / cell / "run.json").read_text())["status"] for cell in "01"] == [
        "completed",
        "completed",
    ]


def test_a_search_with_optuna_gets_the_objective(command, tmp_path):
    search = ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=2"]
    code, out, _ = command(
        "--multirun", *TINY, *search, "hydra.sweep.dir=sweep", space := "optimizer.lr=tag(log, interval(0.001, 0.1))"
    )
    assert code == 0
    assert re.search(r"^\[1\] completed, val acc ", out, re.M), "no test figure to choose a trial by"
    assert shlex.split(read_sweep(tmp_path / "sweep").command)[3:] == ["--multirun", *search, *TINY, space]
    assert (tmp_path / "sweep" / "optimization_results.yaml").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--hydra-help"], ["--cfg", "job"], ["--version"]], ids=" ".join)
def test_flags_that_print(command, tmp_path, arguments):
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert out
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_group_and_the_main_keys(command):
    _, out, _ = command("--help")
    words = (
        "trainer     accelerate, dp",
        "data.batch_size",
        "privacy.epsilon",
        "--multirun",
        "  plan ",
        "Exit codes",
    )
    for word in words:
        assert word in out


def test_an_interrupted_cell_ends_the_sweep_resumably(tmp_path):
    arguments = ["--multirun", *TINY, "seed=0,1", "hydra.sweep.dir=sweep", "trainer.steps=10000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *last_of_each(arguments), "trainer.log_every=10"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    records = tmp_path / "sweep" / "0" / "metrics.jsonl"
    limit = time.monotonic() + 120
    while not (records.exists() and records.stat().st_size) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "Traceback" not in err
    assert status(tmp_path / "sweep" / "0") == "interrupted"
    assert not (tmp_path / "sweep" / "1").exists()
