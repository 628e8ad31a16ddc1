"""Random stopping in searches: what is claimed after trials were killed, interrupted, failed, begun anew and shared."""

import contextlib
import dataclasses
import json
import os
import signal

import optuna
import pytest

from runner.errors import RequestError, RunError
from runner.privacy.accounting.composition import Spent, compose
from runner.privacy.accounting.random_stopping import TrialCount, epsilon_of_best
from runner.privacy.ledger.ledger import LedgerSession, find_ledgers, ledger_folder
from runner.records import run_file
from runner.search import private_study, worker
from runner.search.study_storage import open_storage
from runner.sweeping import selection_file
from runner.sweeping.privacy_file import write_spending
from runner.training.step import TrainStep
from tests.search import postgres, searches
from tests.search.searches import prepare, run_of, search, study_in

STEPS = 8
MEAN = 5.0
TRIALS = (
    "trainer=dp", "privacy.grad_sample=ghost",
    "privacy.noise_multiplier=1.5", "privacy.accountant=rdp", "privacy.selection=random_stopping",
    f"privacy.selection_trials={MEAN}", "data.num_train=64", f"trainer.steps={STEPS}", "trainer.save_every=1",
    "hydra/sweeper/sampler=random", "optimizer.lr=interval(0.01,0.1)",
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(searches, "read_request", lambda *_, **__: None)  # half of the time of a search of one trial


@pytest.fixture
def draws(monkeypatch):
    """draws(3, 5): the numbers that the source will give, one at each draw; their list is returned."""

    def draws(*numbers):
        left = list(numbers)
        monkeypatch.setattr(TrialCount, "draw", lambda count, source: left.pop(0) if left else 9)
        return left

    return draws


class Killed(BaseException):
    """The process has gone."""


@contextlib.contextmanager
def at_step(number, what):
    """Inside this context ``what()`` is called before update ``number`` of each run."""
    run = TrainStep.run

    def stepping(self, step, **options):
        if step == number:
            what()
        return run(self, step, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "run", stepping)
        yield patch


@contextlib.contextmanager
def kill_at(number):
    """A trial is killed before update ``number``: not a word is written any more, by itself or its worker."""

    def kill():
        patch.setattr(LedgerSession, "end", lambda *_, **__: None)
        patch.setattr(run_file, "write_json", lambda *_, **__: None)
        raise Killed

    with at_step(number, kill) as patch, pytest.raises(Killed):
        yield


def entries():
    return [entry for ledger in find_ledgers(ledger_folder(None)) for entry in ledger.entries()]


def claim(folder):
    """What the folder says of publishing the best, after renewing it as a sweep does."""
    (spent,) = write_spending(folder, [ledger_folder(None)], ordinary=0)
    return spent


def one():
    planned = entries()[0].planned
    return Spent(sample_rate=planned.sample_rate, noise_multiplier=planned.noise_multiplier, steps=planned.steps)


def is_by_random_stopping(spent):
    return spent.best.epsilon == epsilon_of_best(one(), TrialCount(mean=MEAN, shape=1.0), delta=1e-5)


def is_by_composition(spent, trials):
    """At least what so many whole trials cost together."""
    assert spent.best == spent.composed
    return spent.best.epsilon >= compose([one()] * trials, delta=1e-5, accountant="rdp").epsilon


def claimed_by_folders(spent, drawn):
    """Whether the rule that counted folders whose last run is not under way would have claimed."""
    return len({cell.planned.folder for cell in spent.cells if cell.status != "running"}) == drawn


def test_trials_that_were_drawn_and_ended(composer, tmp_path, draws):
    left = draws(2, 7)
    assert search(composer, tmp_path / "s", *TRIALS) == ["0", "1"]
    assert is_by_random_stopping(claim(tmp_path / "s"))
    told = json.loads((tmp_path / "s" / "privacy.json").read_text())
    assert told["publishable"]["cell"] == told["best_cell"] in ("0", "1")
    assert "the other trials, how many they were" in told["publishable"]["internal"]
    assert not (tmp_path / "s" / "trials.csv").exists(), "a table of trials that nobody may see"
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0
    # once more: nothing is drawn, nothing is run
    assert search(composer, tmp_path / "s", *TRIALS) == []
    assert left == [], "a number that was not used was drawn"
    assert is_by_random_stopping(claim(tmp_path / "s"))
    # one trial more than was drawn, whoever ran it
    session = find_ledgers(ledger_folder(None))[0].begin(entries()[0].planned)
    session.steps = STEPS
    session.end("completed")
    assert is_by_composition(claim(tmp_path / "s"), 3)


def test_a_trial_killed_before_its_first_save_counts_with_the_one_begun_in_its_place(composer, tmp_path, draws):
    draws(1)
    with kill_at(2):
        search(composer, tmp_path / "s", *TRIALS)
    assert claim(tmp_path / "s").best_by.endswith("not all of the trials that were drawn have ended")
    assert search(composer, tmp_path / "s", *TRIALS) == ["0"]
    assert [entry.status for entry in entries()] == ["running", "completed"]
    spent = claim(tmp_path / "s")
    assert is_by_composition(spent, 2)
    assert "begun anew" in spent.best_by
    assert json.loads((tmp_path / "s" / "privacy.json").read_text())["publishable"]["cell"] is None
    assert claimed_by_folders(spent, 1), "the control: the folder shows one trial that ended"


def test_a_trial_killed_after_a_save_goes_on_with_its_noise_and_is_one(composer, tmp_path, draws):
    draws(1)
    with kill_at(6):
        search(composer, tmp_path / "s", *TRIALS)
    assert search(composer, tmp_path / "s", *TRIALS) == ["0"]
    (entry,) = entries()
    assert (entry.status, entry.killed) == ("completed", True)
    assert is_by_random_stopping(claim(tmp_path / "s"))


def test_an_interrupted_trial_has_not_ended(composer, tmp_path, draws):
    draws(1)
    with at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(SystemExit):
        search(composer, tmp_path / "s", *TRIALS)
    assert [entry.status for entry in entries()] == ["interrupted"]
    spent = claim(tmp_path / "s")
    assert spent.best == spent.composed
    assert claimed_by_folders(spent, 1)
    assert search(composer, tmp_path / "s", *TRIALS) == ["0"]
    assert is_by_random_stopping(claim(tmp_path / "s"))


def test_a_failed_trial_has_not_ended(composer, tmp_path, draws):
    draws(1)

    def fail():
        raise RunError("the loss is not finite")

    with at_step(3, fail), pytest.raises(RunError, match="no trial has given a value"):
        search(composer, tmp_path / "s", *TRIALS)
    spent = claim(tmp_path / "s")
    assert spent.best == spent.composed
    assert "a trial failed" in spent.best_by
    assert claimed_by_folders(spent, 1)


@pytest.fixture(scope="module")
def database():
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL server here: `python -m tests.search.postgres` installs one")
    with postgres.server() as url:
        yield url


@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgresql"])
def test_starts_in_several_folders_on_one_study_share_what_was_drawn(composer, tmp_path, draws, kind, request):
    place = {"journal": tmp_path / "shared.journal", "sqlite": f"sqlite:///{tmp_path}/shared.db"}.get(kind)
    storage = f"hydra.sweeper.storage='{place or request.getfixturevalue('database')}'"
    left = draws(2, 1, 4, 3, 7)
    with kill_at(6):  # in the first trial of the first folder, after a save
        search(composer, tmp_path / "0", *TRIALS, storage)
    ran = [search(composer, tmp_path / str(number), *TRIALS, storage) for number in (0, 1, 2)]
    assert ran == [["0", "1"], [], []]
    assert {selection_file.read_draw(tmp_path / str(number)) for number in (0, 1, 2)} == {
        selection_file.read_draw(tmp_path / "0")
    }
    assert len(left) < 4, "each start drew, and none but the first was heard"
    assert [is_by_random_stopping(claim(tmp_path / str(number))) for number in (0, 1, 2)] == [True] * 3
    named = [json.loads((tmp_path / str(number) / "privacy.json").read_text())["best_cell"] for number in (0, 1)]
    assert named[0] is not None
    assert named[1] is None, "the trials are not here"


def test_a_trial_taken_over_in_another_folder_was_begun_anew(composer, tmp_path, draws):
    storage = f"hydra.sweeper.storage={tmp_path}/shared.journal"
    draws(1)
    with kill_at(6):
        search(composer, tmp_path / "a", *TRIALS, storage)
    assert search(composer, tmp_path / "b", *TRIALS, storage) == ["0"]
    assert [is_by_composition(claim(tmp_path / name), 2) for name in "ab"] == [True, True]


def edit(folder, **changes):
    draw = dataclasses.replace(selection_file.read_draw(folder), **changes)
    selection_file.write_draw(folder, draw)


def test_what_was_drawn_cannot_be_edited_or_drawn_again(composer, tmp_path, draws):
    draws(1)
    folder = tmp_path / "s"
    search(composer, folder, *TRIALS)
    kept = (folder / "selection.json").read_bytes()
    # edited: the study knows better
    edit(folder, trials=3)
    with pytest.raises(RequestError, match=r"hydra\.sweep\.dir: .* of another study"):
        search(composer, folder, *TRIALS)
    # in the study as well: the ledger does
    study = study_in(folder)
    study._storage.set_study_system_attr(
        study._study_id, "runner:selection", json.loads((folder / "selection.json").read_text())
    )
    search(composer, folder, *TRIALS)
    causes = [run_of(folder, number)["error"] for number in (1, 2)]
    assert all("got other trials than were drawn" in cause for cause in causes)
    assert is_by_random_stopping(claim(folder)), "one was drawn, and one has run"
    # removed: the study still has it
    study._storage.set_study_system_attr(study._study_id, "runner:selection", json.loads(kept))
    (folder / "selection.json").unlink()
    assert search(composer, folder, *TRIALS) == []
    assert (folder / "selection.json").read_bytes() == kept
    # removed with the study, and with the folder: the ledger knows the question
    (folder / "search.journal").unlink()
    (folder / "selection.json").unlink()
    with pytest.raises(RequestError, match="random_stopping after trials without it"):
        search(composer, folder, *TRIALS)
    for again in (tmp_path / "t", tmp_path / "u"):
        with pytest.raises(RequestError, match="the ledger knows as drawn before"):
            search(composer, again, *TRIALS, "seed=3", "name=other", "tracker=none")
    # the control: without a ledger that knows, another number would have been drawn
    assert search(composer, tmp_path / "v", *TRIALS, f"privacy.ledger_dir={tmp_path}/other", "hydra.sweeper.n_trials=1")


def test_a_ledger_that_has_forgotten_the_trials_is_refused(composer, tmp_path, draws, monkeypatch):
    draws(1)
    search(composer, tmp_path / "s", *TRIALS)
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir: got .*, expected .*, as the trials were drawn with"):
        search(composer, tmp_path / "s", *TRIALS, f"privacy.ledger_dir={tmp_path}/other")
    for path in ledger_folder(None).iterdir():
        path.unlink()
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir: .*line 1 is missing"):
        search(composer, tmp_path / "s", *TRIALS)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))  # where no note says that there was a ledger
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir: .* expected the ledger that knows the trials of"):
        search(composer, tmp_path / "s", *TRIALS)


class Watching(optuna.samplers.RandomSampler):
    """A random sampler by its name, and one that could look at trials."""


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (("hydra.sweeper.sampler._target_=optuna.samplers.TPESampler",), "hydra/sweeper/sampler: got TPESampler"),
        (("hydra/sweeper/sampler=grid", "optimizer.lr=0.1,0.2"), "hydra/sweeper/sampler: got grid"),
        (("hydra/sweeper/sampler=qmc",), "hydra/sweeper/sampler: got QMCSampler"),
        (("hydra.sweeper.sampler.seed=3",), "hydra.sweeper.sampler.seed: got a number"),
        (("hydra.sweeper.pruner._target_=optuna.pruners.MedianPruner", "privacy.validation=public"),
         "hydra/sweeper/pruner: got MedianPruner"),
        (("hydra.sweeper.custom_search_space=runner.execution.job.plan_run",),
         "hydra.sweeper.custom_search_space: got runner"),
        (("hydra.sweeper.objectives=[val_loss]",), "hydra.sweeper.objectives: got [val_loss], expected [val_accuracy]"),
        (("hydra.sweeper.constraints=['epsilon <= 9']",), "hydra.sweeper.objectives: got [val_accuracy,epsilon <= 9]"),
        *(((f"{key}={values}",), f"{key}: got several values") for key, values in (
            ("data.split_seed", "0,1"), ("data.fold", "0,1"), ("data.val_fraction", "0.1,0.2"), ("data.limit", "48,64"),
            ("data.batch_size", "8,16"), ("trainer.steps", "4,8"), ("privacy.noise_multiplier", "1,2"),
            ("privacy.delta", "1e-5,1e-6"), ("privacy.ledger_dir", "a,b"), ("trainer", "dp,standard"),
        )),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_conditions_are_asked_of_what_is_made(composer, tmp_path, keys, refused):
    with pytest.raises(RequestError) as error:
        prepare(composer, tmp_path / "s", *TRIALS, *keys)[0].work()
    assert str(error.value).startswith(refused)
    assert not (tmp_path / "s").exists()


def test_a_subclass_is_not_the_sampler(composer, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "build_sampler", lambda *_: Watching())
    with pytest.raises(RequestError, match="hydra/sweeper/sampler: got Watching"):
        prepare(composer, tmp_path / "s", *TRIALS)


def test_a_trial_that_somebody_put_in_is_refused(composer, tmp_path, draws):
    draws(2)
    storage = f"hydra.sweeper.storage={tmp_path}/shared.journal"
    study = optuna.create_study(
        storage=open_storage(f"{tmp_path}/shared.journal").backend, study_name="search", direction="maximize"
    )
    study.enqueue_trial({"optimizer.lr": 0.05})
    with pytest.raises(RequestError, match="random_stopping after trials without it"):
        search(composer, tmp_path / "s", *TRIALS, storage)
    draw = private_study.Draw(
        sweep="s", question="q", ledger="l", mean=MEAN, shape=1.0, cells=None, trials=2, picks=None
    )
    study._storage.set_study_system_attr(study._study_id, private_study._DRAW, draw.plain())
    with pytest.raises(RequestError, match="trial 0, which was put into the study"):
        search(composer, tmp_path / "s", *TRIALS, storage)
    study.ask()
    with pytest.raises(RequestError, match="trial 0, which was put into the study"):
        search(composer, tmp_path / "s", *TRIALS, storage)
    assert not find_ledgers(ledger_folder(None))
