"""Workers of one search as processes of their own, and the account of what they have done together."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import optuna

from runner.search.study_storage import open_storage
from runner.search.trial_leases import FOLDER
from tests.conftest import ROOT

DIVERGES = "1e30"
RATES = ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "0.8", DIVERGES)
SEEDS = ("0", "1", "2")
COMMON = ("--multirun", "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.sampler.seed=0",
          "model=mlp", "trainer.epochs=6", "tracker=none", "hardware=cpu", "hardware.threads=1")  # fmt: skip


def start(folder, storage, trials, *, sweep_dir, rates=RATES, seeds=SEEDS):
    """A worker in the background; what it prints goes to a file."""
    folder.mkdir(exist_ok=True)
    own = (f"optimizer.lr={','.join(rates)}", f"seed={','.join(seeds)}", f"hydra.sweep.dir={sweep_dir}",
           f"hydra.sweeper.storage='{storage}'", f"hydra.sweeper.n_trials={trials}")  # fmt: skip
    command = [sys.executable, "-m", "runner", *COMMON, *own]
    with (folder / f"{Path(sweep_dir).name}.out").open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=subprocess.STDOUT
        )


def finish(worker, folder, timeout=500):
    """Wait for a worker, which must have ended well."""
    assert worker.wait(timeout) == 0, "\n".join(path.read_text()[-2000:] for path in folder.glob("*.out"))


def open_study(storage):
    return optuna.load_study(study_name="search", storage=open_storage(str(storage)).backend)


def kill_in_a_trial(worker, sweep_dir, storage, finished):
    """``kill -9`` for a worker that has a trial under way in its folder, once ``finished`` trials are done."""
    while worker.poll() is None:
        try:
            trials = open_study(storage).trials
        except Exception:  # not there yet
            trials = []
        under_way = [trial.user_attrs.get(FOLDER) for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
        here = [folder for folder in under_way if folder and Path(folder).parent == Path(sweep_dir)]
        if sum(trial.state.is_finished() for trial in trials) >= finished and any(
            (Path(folder) / "metrics.jsonl").exists() for folder in here
        ):
            worker.kill()
            worker.wait()
            return True
        time.sleep(0.01)
    return False


def account(storage, sweep_dirs):
    """What a study and the folders of its workers hold, each counted: to be compared with what was asked for."""
    trials = open_study(storage).trials
    folders = [Path(trial.user_attrs[FOLDER]) for trial in trials]
    states = [trial.state.name for trial in trials]
    wrong = []
    for trial, folder in zip(trials, folders, strict=True):
        run = json.loads((folder / "run.json").read_text())
        if folder.name != str(trial.number):
            wrong.append(f"trial {trial.number} is in {folder}")
        if trial.state.name == "FAIL":
            if trial.params["optimizer.lr"] != float(DIVERGES) or not trial.user_attrs["cause"]:
                wrong.append(f"trial {trial.number} failed: {trial.user_attrs}")
            continue
        semantic = run["plan"]["semantic"]
        if (semantic["optimizer"]["lr"], semantic["seed"]) != (trial.params["optimizer.lr"], trial.params["seed"]):
            wrong.append(f"{folder} holds the run of another trial")
        if trial.value != run["metrics"]["val_accuracy"]:
            wrong.append(f"trial {trial.number} was told another value than its run has")
        epochs = [
            r["epoch"]
            for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            if r["kind"] == "val"
        ]
        if epochs != [float(epoch) for epoch in range(1, len(epochs) + 1)] or epochs[-1] != run["epochs"]:
            wrong.append(f"{folder} holds the epochs {epochs}")
    rows = [
        row
        for sweep_dir in sweep_dirs
        for row in csv.DictReader((Path(sweep_dir) / "table.csv").read_text().splitlines())
    ]
    return {
        "trials": [trial.number for trial in trials],
        "states": {state: states.count(state) for state in sorted(set(states))},
        "values tried": len({tuple(trial.params.items()) for trial in trials}),
        "folders": len(set(folders)),
        "cells in the tables": sorted((row["cell"] for row in rows), key=int),
        "wrong": wrong,
    }
