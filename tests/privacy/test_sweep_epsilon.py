"""Which account holds for the cells of a sweep, as the ledger decides it: drawn trials, and searches that learn."""

import dataclasses
import functools
import math

import pytest

from runner.errors import RequestError
from runner.privacy.accounting import sweep_epsilon
from runner.privacy.accounting.composition import Spent, compose
from runner.privacy.accounting.random_stopping import TrialCount, epsilon_of_best
from runner.privacy.accounting.renyi_filter import ACCOUNTANT, Filter
from runner.privacy.accounting.stopping_draws import Draw
from runner.privacy.accounting.sweep_epsilon import Terms, admit, spending_of
from runner.privacy.ledger.ledger import Ledger, find_ledgers
from tests.privacy.test_ledger import RUN

TRIAL = dataclasses.replace(RUN, sweep="s", sample_rate=0.1, noise_multiplier=1.5, steps=40, accountant="rdp")
ONE = Spent(sample_rate=0.1, noise_multiplier=1.5, steps=40)
DRAW = Draw(sweep="s", question="q", ledger="", mean=5.0, shape=1.0, cells=2, trials=3, picks=(1, 0, 1))
TERMS = Terms(draw=DRAW, split="split")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger", "a" * 64)


def begin(ledger, terms=TERMS, run=TRIAL, status="completed"):
    """A trial from its start to its end; ``status`` None for one that was killed."""
    session = ledger.begin(run, admit=functools.partial(admit, terms, run))
    if status is not None:
        session.steps = run.steps
        session.end(status)
    return session


def claim(ledger, sweep="s"):
    (spent,) = spending_of(sweep, find_ledgers(ledger.folder), drawn=True)
    return spent


def by_random_stopping(ledger):
    spent = claim(ledger)
    bound = epsilon_of_best(ONE, TrialCount(mean=5.0, shape=1.0), delta=TRIAL.delta)
    assert (spent.best.epsilon == bound) == (spent.best_by == sweep_epsilon.BEST_BY_RANDOM_STOPPING)
    assert spent.best.epsilon in (bound, spent.composed.epsilon)
    return spent.best.epsilon == bound


@pytest.mark.parametrize(
    ("ends", "holds", "why"),
    [
        (["completed"] * 3, True, "random stopping"),
        (["completed", "budget_exhausted", "completed"], True, "random stopping"),
        (["completed"] * 2, False, "not all of the trials"),
        (["completed", "completed", None], False, "not all of the trials"),
        (["completed", "interrupted", "completed"], False, "not all of the trials"),
        (["completed", "pruned", "completed"], False, "not all of the trials"),
        (["completed", "failed", "completed"], False, "a trial failed"),
        ([None, "completed", "completed", "completed"], False, "begun anew"),
        (["failed", "completed", "completed", "completed"], False, "begun anew"),
        (["completed"] * 4, False, "begun anew"),
    ],
)
def test_the_claim_of_drawn_trials(ledger, ends, holds, why):
    for end in ends:
        begin(ledger, status=end)
    assert by_random_stopping(ledger) == holds
    assert why in claim(ledger).best_by
    # a folder that shows every trial has none but the composed figure
    (shown,) = spending_of("s", find_ledgers(ledger.folder))
    assert shown.best == shown.composed


def test_a_trial_that_goes_on_is_one(ledger):
    session = begin(ledger, status="interrupted")
    again = ledger.begin(TRIAL, entry=session.entry, step=20)
    again.steps = TRIAL.steps
    again.end("completed")
    begin(ledger)
    begin(ledger)
    assert by_random_stopping(ledger)


def test_trials_on_several_data_sets_compose(ledger):
    other = Ledger(ledger.folder, "b" * 64)
    for _ in range(3):
        begin(ledger)
    assert by_random_stopping(ledger)
    begin(other)
    assert {spent.best_by for spent in spending_of("s", find_ledgers(ledger.folder), drawn=True)} == {
        "composition, because trials trained on several data sets"
    }


@pytest.mark.parametrize(
    ("terms", "run", "refused"),
    [
        (Terms(draw=dataclasses.replace(DRAW, trials=4, picks=(1, 0, 1, 1)), split="split"), TRIAL, "other trials"),
        (Terms(draw=dataclasses.replace(DRAW, picks=(1, 1, 1)), split="split"), TRIAL, "other trials than were drawn"),
        (Terms(draw=dataclasses.replace(DRAW, mean=9.0), split="split"), TRIAL, "other trials than were drawn"),
        (Terms(draw=DRAW, split="other"), TRIAL, "a trial on other examples"),
        (TERMS, dataclasses.replace(TRIAL, steps=41), "a trial with q=0.1, noise 1.5, 41 steps"),
        (TERMS, dataclasses.replace(TRIAL, delta=1e-6), "a trial with q=0.1"),
        (Terms(split="split"), TRIAL, "got composition, expected random_stopping"),
        (Terms(draw=dataclasses.replace(DRAW, sweep="t"), split="split"), dataclasses.replace(TRIAL, sweep="t"),
         "random_stopping for trials that the ledger knows as drawn before"),
    ],
    ids=["number", "picks", "distribution", "split", "length", "delta", "composition", "drawn-again"],
)  # fmt: skip
def test_a_trial_that_does_not_belong_is_refused(ledger, terms, run, refused):
    begin(ledger)
    with pytest.raises(RequestError, match=refused):
        begin(ledger, terms, run)
    assert len(ledger.entries()) == 1


def test_trials_may_not_be_drawn_once_some_have_run(ledger):
    begin(ledger, Terms())
    with pytest.raises(RequestError, match="got random_stopping, expected composition"):
        begin(ledger)


def test_another_question_may_be_drawn_and_is_told(ledger):
    begin(ledger)
    other = dataclasses.replace(DRAW, sweep="t", question="another")
    begin(ledger, Terms(draw=other, split="split"), dataclasses.replace(TRIAL, sweep="t"))
    assert [claim(ledger, sweep).other_draws for sweep in ("s", "t")] == [1, 1]


def test_the_limit_is_for_the_best_as_long_as_that_may_be_claimed(ledger):
    best = epsilon_of_best(ONE, TrialCount(mean=5.0, shape=1.0), delta=TRIAL.delta)
    terms = dataclasses.replace(TERMS, limit=best + 0.01)
    for _ in range(3):
        begin(ledger, terms)
    assert compose([ONE] * 3, delta=1e-5, accountant="rdp").epsilon > 0
    begun_anew = compose([ONE] * 4, delta=1e-5, accountant="rdp").epsilon
    with pytest.raises(RequestError, match="a cell with which all compose"):
        begin(ledger, dataclasses.replace(TERMS, limit=begun_anew - 0.01))
    begin(ledger, dataclasses.replace(TERMS, limit=begun_anew + 0.01))


# Searches that learn from their trials.

LEARNS = Terms(learns=True)
LIKELIER = dataclasses.replace(TRIAL, sample_rate=0.2)


def test_a_search_that_learns_may_not_vary_what_its_trials_cost(ledger):
    begin(ledger, LEARNS)
    begin(ledger, LEARNS)
    assert claim(ledger).best.epsilon == compose([ONE] * 2, delta=1e-5, accountant="rdp").epsilon
    with pytest.raises(RequestError, match=r"privacy\.sweep_epsilon: got a trial with q=0\.2, .* expected a budget"):
        begin(ledger, LEARNS, LIKELIER)
    # the control: one that does not learn may, for then all was settled beforehand
    begin(ledger, Terms(), LIKELIER)
    with pytest.raises(RequestError, match=r"privacy\.sweep_epsilon: got a trial with"):
        begin(ledger, LEARNS)


def test_within_a_budget_it_may_and_the_budget_is_the_claim(ledger):
    terms = Terms(learns=True, limit=8.0)
    for run in (TRIAL, LIKELIER, TRIAL):
        begin(ledger, terms, run)
    spent = claim(ledger)
    assert (spent.composed.epsilon, spent.composed.accountant) == (8.0, ACCOUNTANT)
    assert spent.best == spent.composed
    assert spent.best_by == sweep_epsilon.BEST_BY_FILTER

    def fill():
        while True:
            begin(ledger, terms, LIKELIER)

    with pytest.raises(RequestError, match="a cell with which all compose to ε="):
        fill()
    (line,) = [line for line in ledger.lines() if line["kind"] == "filter"]
    budget = Filter(epsilon=8.0, delta=1e-5, order=line["order"])
    runs = [entry.spent for entry in ledger.entries()]
    assert budget.spent(runs) <= 8.0 < budget.spent([*runs, dataclasses.replace(ONE, sample_rate=0.2)])
    # a cheaper one still fits or is refused by the same rule; nothing of it may be changed after a look
    for other in (dataclasses.replace(terms, limit=9.0), dataclasses.replace(terms, limit=None), Terms()):
        with pytest.raises(RequestError, match="as the search began: a budget that is set after a look"):
            begin(ledger, other)
    with pytest.raises(RequestError, match=r"privacy\.delta"):
        begin(ledger, terms, dataclasses.replace(TRIAL, delta=1e-6))


def test_a_budget_that_comes_after_the_first_trial_is_none(ledger):
    begin(ledger, LEARNS)
    with pytest.raises(RequestError, match=r"a trial with q=0\.2"):
        begin(ledger, Terms(learns=True, limit=8.0), LIKELIER)


@pytest.mark.parametrize("epsilon", [2.0, 8.0, 30.0])
def test_the_filter_has_one_order_and_no_smaller_figure_than_the_best_of_many(epsilon):
    budget = Filter.before(ONE, epsilon=epsilon, delta=1e-5)
    steps = 1
    while budget.spent([dataclasses.replace(ONE, steps=steps + 1)]) <= epsilon:
        steps += 1
    run = dataclasses.replace(ONE, steps=steps)
    best = compose([run], delta=1e-5, accountant="rdp").epsilon
    # of runs like the first one, at least 9 in 10 of what the best order of all would let through
    assert best <= budget.spent([run]) * (1 + 1e-9) <= epsilon * (1 + 1e-9)
    assert (
        compose([dataclasses.replace(ONE, steps=math.ceil(steps / 0.9))], delta=1e-5, accountant="rdp").epsilon
        > epsilon
    )
    assert budget.spent([run, run]) == pytest.approx(budget.spent([dataclasses.replace(run, steps=2 * steps)]))
    assert budget.spent([]) == 0.0
    assert math.isinf(budget.spent([dataclasses.replace(run, noise_multiplier=0.0)]))
