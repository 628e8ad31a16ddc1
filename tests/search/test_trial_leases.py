"""Which worker runs which trial: nobody's twice, nobody's never."""

import os
import subprocess
import sys
import threading

import optuna
import psutil
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from runner.records.run_lock import lock_run
from runner.search.study_storage import RECIPE, open_storage
from runner.search.trial_leases import FOLDER, OWNER, TrialLeases

SPACE = {"x": FloatDistribution(0, 1)}


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "search.journal")


@pytest.fixture(params=["journal", "sqlite"])
def any_place(request, tmp_path, place):
    return place if request.param == "journal" else f"sqlite:///{tmp_path}/search.db"


def join(place, stale_after=3600.0):
    """A worker of the study in ``place`` that shows no signs of life by itself."""
    storage = open_storage(place)
    study = optuna.create_study(storage=storage.backend, study_name="s", load_if_exists=True)
    study.set_user_attr(RECIPE, {})
    return TrialLeases(study, storage, stale_after)


def take(claims, most=1, total=100):
    return [trial.number for trial in claims.take(most, SPACE, total=total, prepare=lambda trial: None)]


def sign(claims, number, **changes):
    """Make the owner of a trial somebody else."""
    trial = claims.mine.pop(number)
    claims.storage.backend.set_trial_system_attr(trial._trial_id, OWNER, {**claims._sign(), **changes})


def dead_process():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return {"pid": ended.pid, "started": 1.0}


def test_two_workers_never_have_the_same_trial_nor_one_too_many(any_place):
    first, second = join(any_place), join(any_place)
    found = {first: [], second: []}

    def work(claims):
        while taken := take(claims, total=12):
            found[claims] += taken

    threads = [threading.Thread(target=work, args=(claims,)) for claims in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found[first] + found[second]) == list(range(12))
    assert not first.undecided(), "a live worker on this machine is known to live"


def test_without_taking_turns_there_would_be_one_too_many(place, monkeypatch):
    """Tells that the test above can fail: both look before either asks."""
    import contextlib
    import dataclasses

    both = threading.Barrier(2)
    workers = [join(place), join(place)]
    for claims in workers:
        claims.storage = dataclasses.replace(claims.storage, turn=lambda _: contextlib.nullcontext())
        look = claims.study.get_trials
        monkeypatch.setattr(claims.study, "get_trials", lambda look=look, **keys: (look(**keys), both.wait(30))[0])
    found = []
    threads = [threading.Thread(target=lambda claims=claims: found.extend(take(claims, total=1))) for claims in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2


def test_the_trial_of_a_dead_worker_is_taken_up_with_its_number_and_values(any_place):
    gone, alive = join(any_place), join(any_place)
    assert take(gone, most=2) == [0, 1]
    values = gone.study.trials[1].params
    sign(gone, 1, **dead_process())
    assert take(alive) == [1]
    assert alive.mine[1].params == values
    assert take(alive) == [2], "0 still has its worker"
    assert [trial.state for trial in alive.study.trials] == [TrialState.RUNNING] * 3


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(place):
    gone, alive = join(place), join(place)
    take(gone)
    sign(gone, 0, pid=os.getpid(), started=psutil.Process().create_time() - 3600)
    assert take(alive) == [0]


def test_what_was_given_back_or_never_signed_is_taken_first(place):
    first, second = join(place), join(place)
    with first:
        take(first, most=2)
    first.study.ask()  # killed between asking and signing
    assert take(second, most=4, total=4) == [0, 1, 2, 3]


def test_a_run_that_outlives_its_worker_is_left_alone_until_it_ends(place, tmp_path):
    gone, alive = join(place), join(place)
    take(gone)
    gone.mine[0].set_user_attr(FOLDER, str(tmp_path))
    sign(gone, 0, **dead_process())
    with lock_run(tmp_path):
        assert take(alive, total=1) == []
        assert alive.undecided() == [0]
    assert take(alive, total=1) == [0]


def test_a_worker_elsewhere_is_gone_when_its_signs_of_life_stop(place, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("runner.search.trial_leases.time.monotonic", lambda: now[0])
    away, here = join(place), join(place, stale_after=60.0)
    take(away)
    sign(away, 0, machine="another", beat=1)
    assert take(here, total=1) == []
    assert here.undecided() == [0], "not known before it was watched"
    now[0] = 30.0
    trial = optuna.Trial(away.study, away.study.trials[0]._trial_id)
    away.storage.backend.set_trial_system_attr(
        trial._trial_id, OWNER, {**away._sign(), "machine": "another", "beat": 2}
    )
    assert here.undecided() == [], "it has moved: it lives"
    now[0] = 80.0
    assert take(here, total=1) == []
    now[0] = 91.0
    assert here.undecided() == [0]
    assert take(here, total=1) == [0]


def test_signs_of_life_go_on_while_a_trial_runs(place):
    claims = join(place, stale_after=0.02)
    with claims:
        take(claims)
        seen = set()
        while len(seen) < 3:
            seen.add(claims.study.trials[0].system_attrs[OWNER]["beat"])
    assert claims.study.trials[0].system_attrs[OWNER] is None
