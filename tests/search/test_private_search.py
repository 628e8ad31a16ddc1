"""Searches of private runs: every trial counts in the ledger, and nothing ends early by private data."""

import json
from pathlib import Path

import pytest

from runner.errors import RequestError
from runner.privacy.ledger.ledger import find_ledgers, ledger_folder
from runner.search.study import study_name
from tests.search.searches import prepare, search, study_in

PRIVATE = (
    "trainer=dp",
    "privacy.epsilon=3",
    "privacy.accountant=rdp",
    "data.num_train=64",
    "trainer.epochs=null",
    "trainer.steps=4",
    "optimizer.lr=0.05,0.1,0.2,0.3",
    "hydra/sweeper/sampler=random",
    "hydra.sweeper.sampler.seed=1",
)


def test_a_private_search_ends_before_its_limit_and_goes_on_when_that_is_raised(composer, tmp_path):
    limited = (*PRIVATE, "hydra.sweeper.n_trials=3")
    with pytest.raises(RequestError, match=r"privacy\.sweep_epsilon: .* the search has ended") as ended:
        search(composer, tmp_path, *limited, "privacy.sweep_epsilon=3.5")
    line = str(ended.value)
    assert line.startswith("privacy.sweep_epsilon: got a cell with which all compose to")
    assert line.endswith("(in run 1, which was not begun: the search has ended)")
    done = [trial.number for trial in study_in(tmp_path).trials if trial.state.is_finished()]
    assert done == [0]
    assert not (tmp_path / "1").exists(), "what was refused has not begun"
    assert search(composer, tmp_path, *limited, "privacy.sweep_epsilon=20") == ["1", "2"]
    # another folder is the same sweep to the ledger, since it is the same study
    elsewhere = tmp_path / "elsewhere"
    place = f"hydra.sweeper.storage={tmp_path / 'search.journal'}"
    with pytest.raises(RequestError, match=r"privacy\.sweep_epsilon"):
        search(composer, elsewhere, *PRIVATE, place, "hydra.sweeper.n_trials=4", "privacy.sweep_epsilon=3.5")
    identities = {json.loads((folder / "privacy.json").read_text())["sweep"] for folder in (tmp_path, elsewhere)}
    assert len(identities) == 1


def test_runs_on_fresh_seeds_spend_like_trials(composer, tmp_path):
    keys = (*PRIVATE, "hydra.sweeper.n_trials=1", "hydra.sweeper.confirm=2", "privacy.sweep_epsilon=4.4")
    with pytest.raises(RequestError, match=r"all compose to .* \(in run confirm/0-seed-2, which was not begun"):
        search(composer, tmp_path, *keys)
    sweep = json.loads((tmp_path / "privacy.json").read_text())["sweep"]
    entries = [entry for ledger in find_ledgers(ledger_folder(None)) for entry in ledger.entries()]
    assert [Path(entry.planned.folder).name for entry in entries] == ["0", "0-seed-1"]
    assert {entry.planned.sweep for entry in entries} == {sweep}
    # the winner was picked by results, whatever the sampler
    varied = ("hydra.sweeper.confirm=1", "privacy.epsilon=1,2")
    with pytest.raises(RequestError, match=r"while hydra.sweeper.confirm picks privacy.epsilon"):
        prepare(composer, tmp_path / "varied", *PRIVATE, *varied)
    prepare(composer, tmp_path / "varied", *PRIVATE, *varied[1:])


@pytest.mark.parametrize("where", [("trainer=dp",), ("trainer=standard,dp",)], ids=["fixed", "searched"])
def test_a_pruner_may_not_choose_by_private_validation_data(composer, tmp_path, where):
    keys = ("optimizer.lr=0.1", *where, "seed=0,1", "hydra/sweeper/pruner=median", "hydra/sweeper/sampler=grid")
    if where == ("trainer=dp",):
        with pytest.raises(RequestError, match="not covered by the reported epsilon"):
            search(composer, tmp_path, *keys)
        return
    search(composer, tmp_path, *keys)
    for trial in study_in(tmp_path).trials:
        assert (trial.state.name == "FAIL") == (trial.params["trainer"] == "dp")
        if trial.state.name == "FAIL":
            assert "not covered by the reported epsilon" in trial.user_attrs["cause"]


def test_with_public_validation_data_it_may(composer, tmp_path):
    keys = (*PRIVATE, "privacy.validation=public", "data.num_val=32", "hydra/sweeper/pruner=median",
            "hydra.sweeper.n_trials=1")  # fmt: skip
    assert search(composer, tmp_path, *keys) == ["0"]


@pytest.mark.parametrize("name", ["optuna_lr", "optuna_pareto", "optuna_dp"])
def test_each_question_of_this_kind(composer, tmp_path, name):
    short = (
        ("trainer.epochs=1", "hydra.sweeper.n_trials=2") if name != "optuna_pareto" else ("hydra.sweeper.n_trials=2",)
    )
    assert search(composer, tmp_path, f"sweep={name}", *short, "data.batch_size=16") == ["0", "1"]
    assert study_name(None, composer.compose([f"sweep={name}"])) == name
    study = study_in(tmp_path, name)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    if name == "optuna_dp":
        assert all(trial.constraints["epsilon <= 3"] <= 0 for trial in study.trials)
