"""What is wrong with a search is said in a line, before Optuna and torch are imported where that is possible."""

import contextlib
import subprocess
import sys

import pytest

from runner.commands.train import main
from runner.config.request.request import check_run, read_request
from runner.config.request.search_config import parse_limits
from runner.errors import RequestError
from tests.conftest import ROOT

SEARCH = ("--multirun", "hydra/sweeper=optuna", "tracker=none")
LR = "optimizer.lr=interval(0.1,1)"

# What is typed, the key that the line must start with, and words that must stand in it.
WRONG = [
    ([LR, "hydra/sweeper/sampler=tpee"], "hydra/sweeper/sampler", "did you mean tpe?"),
    ([LR, "hydra/sweeper/pruner=medain"], "hydra/sweeper/pruner", "did you mean median?"),
    ([LR, "hydra.sweeper.pruner._target_=os.system"], "hydra/sweeper/pruner", "optuna.pruners;"),
    ([LR, "hydra.sweeper.trials=3"], "hydra.sweeper.trials", "expected hydra/sweeper=optuna hydra.sweeper.n_trials=3"),
    ([LR, "hydra.sweeper.n_trials=ten"], "hydra.sweeper.n_trials", "got ten"),
    ([LR, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials", "a number >= 1"),
    ([LR, "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs", "a number >= 1"),
    ([LR, "hydra.sweeper.max_failure_rate=2"], "hydra.sweeper.max_failure_rate", "[0, 1]"),
    ([LR, "hydra.sweeper.stale_after=0"], "hydra.sweeper.stale_after", "a number > 0"),
    ([LR, "hydra.sweeper.storage="], "hydra.sweeper.storage", "a name, or null"),
    ([LR, "hydra.sweep.subdir=mine"], "hydra.sweep.subdir", "a trial's folder has its number"),
    ([LR, "hydra.sweeper.custom_search_space=os.system"], "hydra.sweeper.custom_search_space", "RECIPE_RUNNER_TARGETS"),
    ([LR, "hydra.sweeper.objectives=[val_acuracy]"], "hydra.sweeper.objectives", "did you mean val_accuracy?"),
    ([LR, "hydra.sweeper.objectives=[test_accuracy]"], "hydra.sweeper.objectives", "expected val_accuracy: figures"),
    ([LR, "hydra.sweeper.objectives=[]"], "hydra.sweeper.objectives", "at least one"),
    ([LR, "hydra.sweeper.objectives=[seconds,seconds]"], "hydra.sweeper.objectives", "each of them once"),
    ([LR, "hydra.sweeper.objectives=[epsilon]"], "hydra.sweeper.objectives", "trainer=dp"),
    ([LR, "hydra.sweeper.direction=minimize"], "hydra.sweeper.direction", "maximize for val_accuracy"),
    ([LR, "trainer.monitor=val_loss", "hydra.sweeper.direction=maximize"], "hydra.sweeper.direction", "minimize for"),
    ([LR, "hydra.sweeper.direction=[maximize,minimize]"], "hydra.sweeper.direction", "maximize for val_accuracy"),
    ([LR, "hydra.sweeper.constraints=['memory <= 1']"], "hydra.sweeper.constraints", "one of val_accuracy"),
    ([LR, "hydra.sweeper.constraints=['peak_bytes < 1']"], "hydra.sweeper.constraints", "comparisons such as"),
    ([LR, "hydra.sweeper.constraints=['peak_bytes <= much']"], "hydra.sweeper.constraints", "a finite number"),
    ([LR, "hydra.sweeper.constraints=['test_loss <= 1']"], "hydra.sweeper.constraints", "expected val_loss: figures"),
    ([LR, "hydra.sweeper.constraints=['epsilon <= 3']"], "hydra.sweeper.constraints", "trainer=dp"),
    (
        [LR, "hydra.sweeper.objectives=[val_loss,seconds]", "hydra/sweeper/pruner=median"],
        "hydra/sweeper/pruner",
        "MedianPruner with 2 objectives",
    ),
    (
        [LR, "hydra.sweeper.objectives=[seconds]", "hydra/sweeper/pruner=halving"],
        "hydra/sweeper/pruner",
        "val_accuracy",
    ),
    ([LR, "trainer=dp", "hydra/sweeper/pruner=hyperband"], "hydra/sweeper/pruner", "reported epsilon"),
    (["optimizer.lrr=interval(0.1,1)"], "optimizer.lrr", "did you mean optimizer.lr?"),
    (["optimizer.lr=interval(-1,1)"], "optimizer.lr", "in the values searched: optimizer.lr=-1"),
    (["data.batch_size=interval(8.5,64.0)"], "data.batch_size", "whole numbers"),
    (
        ["optimizer=sgd,adamw", "optimizer.momentum=0.0,0.9"],
        "optimizer.momentum",
        "in the values searched: optimizer=adamw optimizer.momentum=0.0",
    ),
    (["model=mlp,mpl"], "model", "did you mean mlp?"),
    (["trainer.epochs=range(0,5)"], "trainer.epochs", "a number > 0"),
    ([LR, "hydra.sweeper.confirm=-1"], "hydra.sweeper.confirm", "a number >= 0"),
    (
        [LR, "hydra.sweeper.confirm=5", "hydra.sweeper.objectives=[val_loss,seconds]"],
        "hydra.sweeper.confirm",
        "0 with 2 objectives",
    ),
    (
        [LR, "hydra.sweeper.confirm=5", "trainer=dp", "privacy.selection=random_stopping"],
        "hydra.sweeper.confirm",
        "0 with privacy.selection=random_stopping",
    ),
    # what is fixed does not go together
    ([LR, "trainer=dp", "privacy=none"], "privacy", "in every trial of the search"),
    ([LR, "optimizer.nesterov=true", "optimizer.momentum=0"], "optimizer.nesterov", "in every trial of the search"),
    (
        ["optimizer.nesterov=true", "optimizer.momentum=0", "seed=range(0,100)"],
        "optimizer.nesterov",
        "in each of 64 trials that were tried",
    ),
]


@pytest.mark.parametrize(
    ("typed", "key", "words"), WRONG, ids=lambda value: " ".join(value) if type(value) is list else ""
)
def test_a_wrong_search_is_refused_in_one_line(composer, typed, key, words):
    with pytest.raises(RequestError) as refused:
        read_request(composer, [*SEARCH[1:], *typed], multirun=True, check=check_run)
    assert refused.value.key == key
    assert words in str(refused.value)


def test_fixed_keys_that_go_with_some_of_the_values_are_no_reason_to_refuse(composer):
    typed = ["optimizer.nesterov=true", "optimizer.momentum=0,0.9"]
    assert read_request(composer, [*SEARCH[1:], *typed], multirun=True, check=check_run).cells is None


def test_the_command_line_says_so_and_leaves_nothing_behind(tmp_path, capsys):
    typed, key, words = WRONG[0]
    with contextlib.chdir(tmp_path):
        assert main([*SEARCH, *typed]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert err.startswith(f"error: {key}: ")
    assert words in err
    assert list(tmp_path.iterdir()) == []


# Found by Optuna, and so after it was imported; torch is not.
LATER = [
    (
        [LR, "hydra/sweeper/pruner=hyperband", "hydra.sweeper.pruner.bootstrap_count=2"],
        "hydra/sweeper/pruner",
        "incompatible",
    ),
    ([LR, "hydra/sweeper/sampler=grid"], "optimizer.lr", "values to list"),
    (["optimizer.lr=interval(1,0.1)"], "optimizer.lr", "values to search"),
    (["optimizer.lr=0.1"], "hydra.sweeper.params", "no key to search"),
    ([LR, "hydra.sweeper.storage=postgresql://127.0.0.1:1/x"], "hydra.sweeper.storage", "can be reached"),
]
ASK = """
import sys
from runner.commands.train import main
for line in sys.argv[1].split("|"):
    print(main(line.split(" ")), "torch" in sys.modules)
"""


def test_what_optuna_refuses_is_refused_before_torch_is_imported(tmp_path):
    lines = "|".join(" ".join([*SEARCH, "hydra.sweep.dir=search", *typed]) for typed, _, _ in LATER)
    ended = subprocess.run(
        [sys.executable, "-c", ASK, lines], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=True,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.stdout.splitlines() == ["2 False"] * len(LATER)
    errors = ended.stderr.splitlines()
    assert len(errors) == len(LATER)
    for line, (_, key, words) in zip(errors, LATER, strict=True):
        assert line.startswith(f"error: {key}: ")
        assert words in line


def test_a_trial_that_goes_on_by_itself_is_no_search(composer):
    """As ``resume=FOLDER`` asks for one: with what was typed for it, and the mode of a single run."""
    lines = ["sweep=optuna_lr", "optimizer.lr=0.1", "hydra.run.dir=folder", "hydra.mode=RUN"]
    assert not read_request(composer, lines, multirun=False, check=lambda *_: None).multirun


def test_limits_are_kept_relative_to_their_bound():
    most, least = parse_limits(["peak_bytes <= 2e9", "val_accuracy>=0.5"])
    assert (most.excess(3e9), most.excess(2e9), most.excess(1e9)) == (0.5, 0.0, -0.5)
    assert (least.excess(0.25), least.excess(0.75)) == (0.5, -0.5)
    assert str(most) == "peak_bytes <= 2e+09"
    with pytest.raises(RequestError):
        parse_limits(["epsilon <= nan"])
