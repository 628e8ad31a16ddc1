"""Searches of private runs: every trial counts in the ledger, and nothing ends early by private data."""

import json

import pytest

from runner.errors import RequestError
from runner.search.study import study_name
from tests.search.searches import search, study_in

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
    assert "all compose to" in str(ended.value)
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
