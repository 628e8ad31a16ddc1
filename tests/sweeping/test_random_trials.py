"""``privacy.selection=random_stopping`` from the command line: trials and their number are drawn once, beforehand."""

import contextlib
import dataclasses
import functools
import json
import random
import shutil

import pytest

from runner import sweep
from runner.config.request.request import read_request
from runner.errors import RequestError
from runner.privacy.accounting.composition import Spent, compose
from runner.privacy.accounting.random_stopping import TrialCount, epsilon_of_best
from runner.privacy.accounting.sweep_epsilon import Terms, admit
from runner.privacy.ledger.ledger import Ledger, ledger_folder
from runner.sweeping import selection_file
from runner.sweeping.privacy_file import identify_sweep
from runner.sweeping.random_trials import best_trial, draw_beforehand
from tests.conftest import last_of_each
from tests.privacy.test_ledger import RUN
from tests.test_sweep_privacy import GRID, TINY, entries, spending

DRAWN = (*GRID, "privacy.selection=random_stopping", "optimizer.lr=0.05,0.1")


@pytest.fixture
def three_trials(monkeypatch):
    """A source of which it is known that it draws three trials of two cells, one of them twice."""
    monkeypatch.setattr(selection_file.random, "SystemRandom", lambda: random.Random(9))


def test_the_best_of_a_drawn_number_of_trials(command, tmp_path, monkeypatch, three_trials):
    code, out, _ = command(*DRAWN, "privacy.selection_trials=5")
    assert code == 0
    drawn = json.loads((tmp_path / "grid" / "selection.json").read_text())
    assert (drawn["mean"], drawn["shape"], drawn["cells"]) == (5, 1, 2)
    assert drawn["trials"] == len(drawn["picks"]) == 3
    assert len(set(drawn["picks"])) == 2, "a cell was drawn twice, and another one too"
    assert (tmp_path / "grid" / "selection.json").stat().st_mode & 0o077 == 0
    rates = [json.loads((tmp_path / "grid" / str(i) / "run.json").read_text())["plan"]["semantic"]["optimizer"]["lr"]
             for i in range(3)]  # fmt: skip
    assert rates == [(0.05, 0.1)[pick] for pick in drawn["picks"]]
    # noise of its own for each, also for the cell that ran twice
    losses = [json.loads((tmp_path / "grid" / str(i) / "run.json").read_text())["metrics"]["train_loss"]
              for i in range(3)]  # fmt: skip
    assert len(set(losses)) == 3
    told = spending(tmp_path)
    run = Spent(**{key: told["cells"][0][key] for key in ("sample_rate", "noise_multiplier", "steps")})
    assert told["publish_best"]["epsilon"] == epsilon_of_best(run, TrialCount(mean=5, shape=1.0), delta=1e-5)
    assert told["publish_best"]["by"].startswith("random stopping")
    assert told["publish_all"]["epsilon"] == compose([run] * 3, delta=1e-5).epsilon
    best = json.loads((tmp_path / "grid" / "privacy.json").read_text())["best_cell"]
    assert best == best_trial(tmp_path / "grid")
    assert f"the best               cell {best}\n" in out
    assert "table:" not in out, "what the other trials reached is nobody's to see"
    # the same command goes on with what was drawn, though another source would draw otherwise
    monkeypatch.setattr(selection_file.random, "SystemRandom", lambda: random.Random(1))
    code, _, _ = command(*DRAWN, "privacy.selection_trials=5")
    assert code == 0
    assert json.loads((tmp_path / "grid" / "selection.json").read_text()) == drawn
    assert len(entries(tmp_path)) == 3
    code, _, err = command(*DRAWN, "privacy.selection_trials=6")
    assert code == 2
    assert "privacy.selection: got 2 cells, mean 6, shape 1, expected 2 cells, mean 5, shape 1, as " in err
    (tmp_path / "begun").mkdir()
    (tmp_path / "grid" / "selection.json").rename(tmp_path / "begun" / "selection.json")
    code, _, err = command(*GRID[:-1], "hydra.sweep.dir=begun", "optimizer.lr=0.05,0.1")
    assert code == 2
    assert err.startswith("error: privacy.selection: got composition, expected random_stopping, as ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (*GRID, "privacy.selection=random_stopping", "trainer.steps=3,4"),
            "privacy.selection: got a trial with q=0.390244",
        ),
        (
            (*DRAWN, "privacy.selection_trials=50", "privacy.sweep_epsilon=4"),
            "privacy.sweep_epsilon: got trials of which publishing the best costs ε=",
        ),
        (
            (*GRID, "privacy.selection=composition,random_stopping"),
            "privacy.selection: got random_stopping in some cells",
        ),
        ((*DRAWN, "hydra.sweep.subdir=lr"), "hydra.sweep.subdir: got lr"),
        (
            (*DRAWN[:-1], "hydra/sweeper=optuna", "optimizer.lr=interval(0.01,0.1)"),
            "hydra/sweeper/sampler: got TPESampler, expected random",
        ),
        (
            (*TINY, "hydra.run.dir=grid", "privacy.selection=random_stopping"),
            "privacy.selection: got random_stopping in a single run",
        ),
    ],
    ids=["unlike", "limit", "mixed", "folders", "learning", "single"],
)
def test_a_condition_that_does_not_hold_is_refused_before_anything_runs(command, tmp_path, arguments, message):
    code, _, err = command(*arguments)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "grid").exists()


def test_a_random_search_runs_the_number_that_was_drawn(command, tmp_path, three_trials):
    search = ("hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "optimizer.lr=interval(0.01,0.1)")
    typed = [*DRAWN[:-1], *search, "privacy.selection_trials=5"]
    with contextlib.chdir(tmp_path):
        found = sweep(*last_of_each(typed[1:]))
    assert found.best.folder == tmp_path / "grid" / best_trial(tmp_path / "grid")
    with pytest.raises(RequestError, match="of its trials nobody but the best may be looked at"):
        found.table()
    code, out, err = command(*typed)  # goes on there, and finds that nothing is left to do
    assert code == 0, err
    assert json.loads((tmp_path / "grid" / "selection.json").read_text())["trials"] == 3
    assert len(entries(tmp_path)) == 3
    assert "publishing the best" in out
    assert spending(tmp_path)["publish_best"]["by"].startswith("random stopping")


def ask(composer, *lines):
    return read_request(composer, [*DRAWN[1:-1], *lines], multirun=True, check=lambda *_: None)


def draw(request, folder):
    """What stands in the folder of a sweep after it was asked for, and before it has begun."""
    draw_beforehand(dataclasses.replace(request, sweep_dir=folder))
    return selection_file.read_draw(folder)


def begin(draw):
    """The first of the trials, for the ledger."""
    run = dataclasses.replace(RUN, sweep=draw.sweep)
    admitted = functools.partial(admit, Terms(draw=draw, split="split"), run)
    return Ledger(ledger_folder(None), "a" * 64).begin(run, admit=admitted)


def test_a_question_is_drawn_once(composer, tmp_path):
    asked = ask(composer, "optimizer.lr=0.05,0.1")
    first = draw(asked, tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    # what no trial has begun of is nobody's: another folder may draw
    assert draw(asked, tmp_path / "b").sweep != first.sweep
    begin(first)
    assert draw(asked, tmp_path / "a") == first
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert draw(asked, tmp_path / "copy") == first, "the same sweep: its trials count together"
    same = ask(composer, "optimizer.lr=0.1,0.05", "seed=5", "name=other", "privacy.selection_trials=9")
    for again in (asked, same):
        with pytest.raises(RequestError, match="trials that the ledger knows as drawn before"):
            draw(again, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    # the file alone removed, then what else the sweep has there
    identify_sweep(tmp_path / "a")
    (tmp_path / "a" / "selection.json").unlink()
    with pytest.raises(RequestError, match=r"random_stopping without .*selection\.json, expected composition"):
        draw(asked, tmp_path / "a")
    (tmp_path / "a" / "privacy.json").unlink()
    with pytest.raises(RequestError, match="trials that the ledger knows as drawn before"):
        draw(asked, tmp_path / "a")
    # the identity alone changed
    (tmp_path / "copy" / "privacy.json").write_text('{"sweep": "another"}')
    with pytest.raises(RequestError, match=r"hydra\.sweep\.dir: .* is of another sweep"):
        identify_sweep(tmp_path / "copy")
    # another question may be asked, of other settings
    assert draw(ask(composer, "optimizer.lr=0.05,0.2"), tmp_path / "d").trials >= 1


@pytest.mark.parametrize(
    "key", ["data", "data.split_seed", "data.limit", "data.val_fraction", "data.fold", "data.batch_size", "trainer",
            "trainer.steps", "privacy.delta", "privacy.noise_multiplier", "privacy.ledger_dir", "+experiment"]
)  # fmt: skip
def test_what_could_change_the_data_or_the_price_is_not_varied(key):
    with pytest.raises(RequestError, match="each trial is the same mechanism on the same data"):
        selection_file.refuse_varied({"optimizer.lr", key})
    selection_file.refuse_varied({"optimizer.lr", "optimizer", "+model.width", "seed", "data.augment.flip"})
