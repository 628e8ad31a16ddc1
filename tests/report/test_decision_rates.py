"""How often a recommendation or a verdict is wrong, where earlier rules were wrong too often.

``python -m tests.report.decision_simulation`` draws ten thousand sweeps of each kind; these are few, and the bounds are
such that chance passes them once in hundreds of times.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.report.decision_simulation import ONLY_ONE, RARE, SAFE, Setting, normal, outcome, students_t

SWEEPS = 500
BOUND = 0.05 + 3 * np.sqrt(0.05 * 0.95 / SWEEPS)
FEW = [setting for setting in SAFE if len(setting.deficits) < 8]


@pytest.mark.parametrize("setting", FEW, ids=lambda setting: setting.name)
def test_wrong_recommendations_and_claims_are_rare(setting):
    found = outcome(setting, SWEEPS)
    assert found.wrong <= BOUND
    assert not found.false_different > BOUND
    assert not found.false_equivalent > BOUND


def test_a_rule_without_planned_looks_would_be_seen_to_be_wrong(monkeypatch):
    """Negative control: the level spent anew at each look, and on each rival."""
    setting = Setting("", (0, *(1,) * 4), (5, 4, 3, 2, 1), noise=(normal,))
    monkeypatch.setattr("runner.report.decision_rule.Rule.each", lambda self, recipes: self.level)
    assert outcome(setting, SWEEPS).wrong > 0.1


def test_without_hall_skew_would_be_seen():
    with students_t():
        assert outcome(ONLY_ONE, SWEEPS).wrong > 0.12


def test_splits_that_count_as_seeds_would_be_seen(monkeypatch):
    """Negative control: without Nadeau and Bengio's correction equal recipes are called different in half of cases."""
    setting = next(one for one in SAFE if one.tested)
    corrected = setting.rule
    assert outcome(setting, SWEEPS).false_different <= BOUND
    monkeypatch.setattr(Setting, "rule", property(lambda self: replace(corrected, shared_training=0.0)))
    assert outcome(setting, SWEEPS).false_different > 0.2


def test_a_rate_of_lost_runs_that_matters_is_excluded_first():
    """A run in 20 that loses much: so many runs that one of them shows it, or no sentence."""
    careful = outcome(replace(RARE, failure_rate=0.05, max_seeds=80), SWEEPS)
    assert careful.wrong <= BOUND
    assert careful.seeds > 59


def test_the_sentence_holds_as_it_is_said_though_few_runs_have_not_seen_the_rare_ones():
    for rate in (0.05, 0.3):
        found = outcome(replace(RARE, rare=((0, 0), (rate, 20))), SWEEPS)
        assert found.false_sentence <= BOUND
        assert found.false_equivalent_sentence <= BOUND
    # negative control: without the bound that it names, it would be wrong of most
    careless = outcome(RARE, SWEEPS)
    assert min(careless.wrong, careless.false_equivalent) > 0.5


def test_few_seeds_recommend_nothing():
    assert outcome(Setting("", (0, 0), (2, 1), max_seeds=4), SWEEPS).open == 1.0


def test_equal_recipes_cost_no_more_than_a_fixed_design():
    equal = outcome(Setting("", (0, 0, 0), (3, 2, 1)), SWEEPS)
    assert equal.right > 0.97
    assert equal.runs < 0.8 * 3 * 20
