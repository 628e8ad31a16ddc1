"""A search from its first trial to its files: counted, continued, pruned, and nothing of it lost."""

import csv
import json
import math
import shutil

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from runner.errors import RequestError, RunError
from runner.records.sweep_cells import CellFolders, find_cells
from runner.training.checkpointing.checkpoint import load_checkpoint
from tests.search.searches import LR, RECIPE, run_of, search, study_in

SEEDED = (LR, "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=3")
EPOCHS = 6


@pytest.fixture(scope="module")
def pruned(composer, tmp_path_factory):
    """Ten trials with hard halving, of which some end early; (folder, numbers of the trials that were launched)."""
    folder = tmp_path_factory.mktemp("pruned")
    keys = (*SEEDED, f"trainer.epochs={EPOCHS}", "hydra/sweeper/pruner=halving", "hydra.sweeper.n_trials=10")
    return folder, search(composer, folder, *keys)


def test_each_trial_is_a_folder_with_its_number(pruned):
    folder, launched = pruned
    assert launched == [str(number) for number in range(10)]
    for trial in study_in(folder).trials:
        lr = run_of(folder, trial.number)["plan"]["semantic"]["optimizer"]["lr"]
        assert lr == trial.params["optimizer.lr"]


def test_a_pruned_run_ends_cleanly_with_what_it_has(pruned):
    folder, _ = pruned
    trials = study_in(folder).trials
    early = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert 2 <= len(early) < len(trials)
    for trial in early:
        run = run_of(folder, trial.number)
        assert run["status"] == "pruned"
        assert run["epochs"] < EPOCHS
        assert run["error"] is None
        assert run["metrics"]["test_accuracy"] is None, "only a run that is done sees the test split"
        assert load_checkpoint(folder / str(trial.number) / "checkpoints" / "last").step == run["steps"]
        lines = (folder / str(trial.number) / "metrics.jsonl").read_text().splitlines()
        found = [record["accuracy"] for record in map(json.loads, lines) if record["kind"] == "val"]
        assert list(trial.intermediate_values.values()) == found
        assert trial.value == found[-1]
        assert trial.user_attrs["epochs"] == run["epochs"]


def test_a_pruned_run_goes_on_when_it_is_started_by_itself(pruned, train, tmp_path):
    folder, _ = pruned
    trial = next(trial for trial in study_in(folder).trials if trial.state == TrialState.PRUNED)
    alone = tmp_path / "alone"
    shutil.copytree(folder / str(trial.number), alone, symlinks=True)
    train(*RECIPE, f"trainer.epochs={EPOCHS}", f"optimizer.lr={trial.params['optimizer.lr']}", run_dir=alone)
    ended = json.loads((alone / "run.json").read_text())
    assert (ended["status"], ended["epochs"]) == ("completed", EPOCHS)


def test_the_files_of_a_search(pruned):
    folder, _ = pruned
    study = study_in(folder)
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best_value"] == study.best_value
    assert results["best_params"] == study.best_params
    assert (results["objectives"], results["directions"]) == (["val_accuracy"], ["maximize"])
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(10))
    for row, trial in zip(rows, study.trials, strict=True):
        assert row["state"] == trial.state.name
        assert float(row["value"]) == trial.value
        assert float(row["params_optimizer.lr"]) == trial.params["optimizer.lr"]
        assert row["user_attrs_folder"] == row["number"]
        assert row["datetime_start"] == str(trial.datetime_start)


def test_a_search_goes_on_to_its_number_of_trials_in_total_as_if_it_had_never_stopped(composer, tmp_path):
    """With a seed the values of a trial depend on the trials before it, not on how often the search was started."""
    tpe = (LR, "hydra.sweeper.sampler.seed=3", "hydra.sweeper.sampler.n_startup_trials=2")
    assert search(composer, tmp_path / "whole", *tpe, "hydra.sweeper.n_trials=4") == ["0", "1", "2", "3"]
    assert search(composer, tmp_path / "parts", *tpe, "hydra.sweeper.n_trials=2") == ["0", "1"]
    assert search(composer, tmp_path / "parts", *tpe, "hydra.sweeper.n_trials=4") == ["2", "3"]
    assert search(composer, tmp_path / "parts", *tpe, "hydra.sweeper.n_trials=4") == []
    whole, parts = (study_in(tmp_path / name).trials for name in ("whole", "parts"))
    assert [trial.params for trial in whole] == [trial.params for trial in parts]
    assert [trial.value for trial in whole] == [trial.value for trial in parts]
    assert len({trial.params["optimizer.lr"] for trial in whole}) == 4


@pytest.mark.parametrize("storage", ["memory", "sqlite:///{}/search.db"], ids=["memory", "sqlite"])
def test_each_storage(composer, tmp_path, storage):
    """The default, a journal, is what the other tests have; PostgreSQL has a test of its own."""
    keys = (f"hydra.sweeper.storage={storage.format(tmp_path)}", "hydra/sweeper/pruner=median", "trainer.epochs=1")
    assert search(composer, tmp_path, LR, *keys, "hydra.sweeper.n_trials=2") == ["0", "1"]
    assert [run_of(tmp_path, number)["status"] for number in (0, 1)] == ["completed"] * 2
    kept = sorted(path.name for path in tmp_path.iterdir() if path.name not in ("0", "1"))
    files = ["cells.json", "multirun.yaml", "optimization_results.yaml", "trials.csv"]
    assert kept == (files if storage == "memory" else [".search.db.turn", *files[:3], "search.db", *files[3:]])
    # a run of somebody's in the same folder is no trial
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "run.json").write_bytes((tmp_path / "0" / "run.json").read_bytes())
    assert find_cells(tmp_path) == CellFolders(("0", "1"), ("7",))


@pytest.mark.parametrize(
    ("sampler", "options", "trials"),
    [
        ("tpe", ("n_startup_trials=1",), 3),
        ("gp", ("n_startup_trials=1",), 3),
        ("cmaes", (), 3),
        ("nsgaii", ("population_size=2",), 3),
        ("random", (), 2),
        ("grid", (), 2),
    ],
)
def test_each_sampler(composer, tmp_path, sampler, options, trials):
    values = ("optimizer.lr=0.05,0.5",) if sampler == "grid" else (LR, "optimizer.momentum=interval(0.0,0.9)")
    keys = [f"hydra.sweeper.sampler.{option}" for option in (*options, "seed=1")]
    launched = search(composer, tmp_path, *values, f"hydra/sweeper/sampler={sampler}", *keys, "trainer.epochs=1",
                      f"hydra.sweeper.n_trials={trials}")  # fmt: skip
    assert len(launched) == trials
    study = study_in(tmp_path)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert len({tuple(trial.params.items()) for trial in study.trials}) == trials, "each trial tries something else"


def test_what_diverges_or_breaks_is_a_failed_trial_with_its_cause_and_the_search_goes_on(composer, tmp_path, capsys):
    def breaks(folder):
        if folder.name == "1":
            raise RuntimeError("the disk is on fire")

    values = ("optimizer.lr=0.1,0.2,0.3", "seed=0", "hydra/sweeper/sampler=grid", "hydra.sweeper.sampler.seed=0")
    assert search(composer, tmp_path / "breaks", *values, before=breaks) == ["0", "1", "2"]
    assert [trial.state.name for trial in study_in(tmp_path / "breaks").trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study_in(tmp_path / "breaks").trials[1].user_attrs["cause"] == "the disk is on fire"
    assert "trial 1 failed: the disk is on fire" in capsys.readouterr().out
    search(composer, tmp_path / "diverges", "optimizer.lr=1e30,0.2", "hydra/sweeper/sampler=grid")
    by_rate = {trial.params["optimizer.lr"]: trial for trial in study_in(tmp_path / "diverges").trials}
    assert by_rate[0.2].state == TrialState.COMPLETE
    assert by_rate[1e30].state == TrialState.FAIL
    assert "not finite" in by_rate[1e30].user_attrs["cause"]


def test_when_no_trial_gives_a_value_the_search_has_failed_and_says_why(composer, tmp_path):
    with pytest.raises(RunError, match=r"no trial has given a value; the first that failed: .* not finite"):
        search(composer, tmp_path, "optimizer.lr=1e30,1e31", "hydra.sweeper.n_trials=2")
    assert yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())["best_value"] is None


def test_the_best_trial_is_confirmed_on_fresh_seeds_and_a_confirmation_that_was_killed_goes_on(
    composer, tmp_path, capsys
):
    # of these rates the second is far better than the first
    keys = (LR, "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=32", "seed=5", "trainer.epochs=1",
            "hydra.sweeper.n_trials=1", "hydra.sweeper.confirm=3")  # fmt: skip

    def killed(folder):
        if folder.name.endswith("-seed-7"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(composer, tmp_path, *keys, before=killed)
    study = study_in(tmp_path)
    best = study.best_trial
    names = [f"{best.number}-seed-{seed}" for seed in (6, 7, 8)]
    assert search(composer, tmp_path, *keys) == names[1:], "the seed that was done is not run again"
    assert "on 3 of 3 fresh seeds, val_accuracy" in capsys.readouterr().out
    runs = [run_of(tmp_path / "confirm", name) for name in names]
    asked = [(run["plan"]["semantic"]["seed"], run["plan"]["semantic"]["optimizer"]["lr"]) for run in runs]
    assert asked == [(seed, best.params["optimizer.lr"]) for seed in (6, 7, 8)]
    assert len(study_in(tmp_path).trials) == 1, "no sampler learns from them"
    results = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())
    values = [run["metrics"]["val_accuracy"] for run in runs]
    assert results["confirmation"] == {"trial": best.number, "seeds": [6, 7, 8], "values": values}
    assert find_cells(tmp_path) == CellFolders(("0", *(f"confirm/{name}" for name in names)), ())
    # a search that goes on confirms what is the best then, and keeps what it has confirmed before
    more = search(composer, tmp_path, *keys, "hydra.sweeper.n_trials=2", "hydra.sweeper.confirm=1")
    assert study_in(tmp_path).best_trial.number == 1, "otherwise this shows nothing"
    assert more == ["1", "1-seed-6"]
    assert find_cells(tmp_path).strangers == ()


def test_what_is_refused_whatever_is_searched_ends_the_search(composer, tmp_path):
    def without_data(folder):
        raise RequestError("data.root", "/nowhere", "a folder that exists")

    # not before each choice has been tried
    keys = ("seed=1,2,3,4", "optimizer.lr=range(1,4)", "hydra/sweeper/sampler=qmc", "hydra.sweeper.sampler.seed=0")
    with pytest.raises(RequestError, match=r"data.root: got /nowhere, .*\(in each of the \d+ trials so far") as refused:
        search(composer, tmp_path, *keys, before=without_data)
    assert refused.value.key == "data.root"
    trials = study_in(tmp_path).trials
    assert {trial.params["seed"] for trial in trials} == {1, 2, 3, 4}
    assert {trial.params["seed"] for trial in trials[:-1]} != {1, 2, 3, 4}


def test_more_failures_than_allowed_end_the_search(composer, tmp_path):
    with pytest.raises(RunError, match=r"1 of 1 trials failed \(hydra.sweeper.max_failure_rate\)"):
        search(composer, tmp_path, "optimizer.lr=1e30,1e31", "hydra.sweeper.max_failure_rate=0.5")
    assert len(study_in(tmp_path).trials) == 1


def test_several_objectives_and_constraints(composer, tmp_path):
    keys = (LR, "model=mlp,linear", "hydra.sweeper.objectives=[val_accuracy,seconds]",
            "hydra.sweeper.constraints=['peak_bytes <= 1e12','val_loss <= 1.9']", "hydra/sweeper/sampler=random",
            "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_trials=6")  # fmt: skip
    search(composer, tmp_path, *keys)
    study = study_in(tmp_path)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    kept = []
    for trial in study.trials:
        run = run_of(tmp_path, trial.number)
        records = [
            json.loads(line) for line in (tmp_path / str(trial.number) / "metrics.jsonl").read_text().splitlines()
        ]
        assert trial.values == [
            run["metrics"]["val_accuracy"],
            [r for r in records if r["kind"] == "train"][-1]["seconds"],
        ]
        assert trial.constraints["peak_bytes <= 1e+12"] < 0
        excess = trial.constraints["val_loss <= 1.9"]
        assert math.isclose(excess, (run["metrics"]["val_loss"] - 1.9) / 1.9)
        kept += [trial.number] if excess <= 0 else []
    assert 0 < len(kept) < 6, "the constraint must bite for this test to tell anything"
    results = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())
    front = {solution["trial"] for solution in results["solutions"]}
    assert front == {trial.number for trial in study.best_trials}
    assert front <= set(kept)
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["values_1"]) == study.trials[0].values[1]
    assert float(rows[0]["system_attrs_constraints:val_loss <= 1.9"]) == study.trials[0].constraints["val_loss <= 1.9"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("trainer.epochs=3", "trainer.epochs"),
        ("optimizer.lr=tag(log,interval(0.01,2))", "optimizer.lr"),
        ("hydra.sweeper.objectives=[val_loss]", "hydra.sweeper.objectives"),
    ],
)
def test_a_study_of_another_search_is_refused_by_the_key_that_differs(composer, pruned, change, key):
    folder, _ = pruned
    with pytest.raises(RequestError) as refused:
        search(composer, folder, *SEEDED, f"trainer.epochs={EPOCHS}", change, "hydra.sweeper.n_trials=20")
    assert refused.value.key == key
    assert "another hydra.sweeper.study_name" in str(refused.value)
    assert len(study_in(folder).trials) == 10


def test_how_a_trial_runs_may_change(composer, pruned):
    folder, _ = pruned
    changed = ("data.eval_batch_size=3", "hydra/sweeper/pruner=none", "name=other", "hydra.sweeper.n_trials=10")
    assert search(composer, folder, *SEEDED, f"trainer.epochs={EPOCHS}", *changed) == []


def test_the_study_of_another_program_is_refused(composer, tmp_path):
    url = f"sqlite:///{tmp_path}/other.db"
    optuna.create_study(storage=url, study_name="theirs").ask()
    with pytest.raises(RequestError, match="is of another program"):
        search(composer, tmp_path, LR, f"hydra.sweeper.storage={url}", "hydra.sweeper.study_name=theirs")
