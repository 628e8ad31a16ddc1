import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from runner.report.statistics import (
    fisher,
    holm,
    interaction,
    mean_interval,
    paired,
    power_to_show_equivalence,
    rate_bounds,
    runs_needed,
    unpaired,
)
from tests.report.simulation import MARGIN, SETTINGS, power_of_the_advice, rates

ONE = [97.1, 98.2, 96.9, 97.7, 98.0]
OTHER = [97.3, 97.9, 97.4, 98.1, 98.6]
LONGER = [96.9, 98.4, 97.7, 97.2, 98.8, 97.5, 98.1]


def test_the_paired_test_is_students():
    found, expected = dataclasses.replace(paired(ONE, OTHER), skew=None), stats.ttest_rel(ONE, OTHER)
    assert float(found.p_different()) == pytest.approx(expected.pvalue, rel=1e-12)
    assert [float(end) for end in found.interval(0.95)] == pytest.approx(list(expected.confidence_interval(0.95)))


def test_the_unpaired_test_is_welchs():
    found, expected = unpaired(ONE, LONGER), stats.ttest_ind(ONE, LONGER, equal_var=False)
    assert float(found.p_different()) == pytest.approx(expected.pvalue, rel=1e-12)
    assert float(found.degrees) == pytest.approx(expected.df)
    assert [float(end) for end in found.interval(0.9)] == pytest.approx(list(expected.confidence_interval(0.9)))


@pytest.mark.parametrize("margin", [0.1, 0.5, 2.0])
def test_equivalence_is_two_one_sided_tests(margin):
    differences = np.subtract(ONE, OTHER)
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    found = dataclasses.replace(paired(ONE, OTHER), skew=None)
    assert float(found.p_equivalent(margin)) == pytest.approx(max(above, below), rel=1e-12)


def test_the_bounds_are_students_unless_a_tail_makes_those_too_tight():
    symmetric = dataclasses.replace(paired([-2.0, -1.0, 0.0, 1.0, 2.0], np.zeros(5)), skew=None)
    t = stats.t.interval(0.9, 4, 0.0, stats.sem([-2, -1, 0, 1, 2]))
    assert (float(symmetric.lower(0.05)), float(symmetric.upper(0.05))) == pytest.approx(t)
    # a tail may be longer than it looks
    looked_at = paired([-2.0, -1.0, 0.0, 1.0, 2.0], np.zeros(5))
    assert (float(looked_at.lower(0.05)), float(looked_at.upper(0.05))) == pytest.approx(
        (1.52 * t[0], 1.52 * t[1]), 0.01
    )
    tailed = paired([-4.0, 1.0, 1.0, 1.0, 1.0], np.zeros(5))
    assert float(tailed.lower(0.05)) < 1.8 * t[0] * float(tailed.error / symmetric.error)
    turned = paired([4.0, -1.0, -1.0, -1.0, -1.0], np.zeros(5))
    assert float(turned.upper(0.05)) == pytest.approx(-float(tailed.lower(0.05)))


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_p_values_and_bounds_agree(margin):
    found = paired([0.1, 0.2, -0.9, 0.3, 0.15, 0.2], np.zeros(6))
    p = float(found.p_equivalent(margin))
    assert min(float(found.lower(p)) + margin, margin - float(found.upper(p))) == pytest.approx(0.0, abs=1e-9)


def test_bounds_of_a_rate():
    assert rate_bounds(0, 5, 0.05)[1] == pytest.approx(1 - 0.05**0.2)
    assert rate_bounds(3, 10, 0.05) == pytest.approx((stats.beta.ppf(0.05, 3, 8), stats.beta.ppf(0.95, 4, 7)), rel=1e-9)
    assert rate_bounds([0, 5], [0, 5], 0.05) == (pytest.approx([0.0, 0.05**0.2]), pytest.approx([1.0, 1.0]))


@pytest.mark.parametrize(("one", "other"), [((5, 5), (0, 5)), ((3, 8), (1, 9)), ((0, 4), (2, 4))])
def test_fishers_test(one, other):
    table = [[one[0], one[1] - one[0]], [other[0], other[1] - other[0]]]
    assert float(fisher(*one, *other)) == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)


def test_folds_are_no_independent_repeats():
    """Nadeau and Bengio: the variance of a mean over k folds is s^2 (1/k + 1/(k - 1)), and not s^2 / k."""
    plain, folds = paired(ONE, OTHER), paired(ONE, OTHER, shared_training=1 / 4)
    assert float(folds.error / plain.error) == pytest.approx(math.sqrt((1 / 5 + 1 / 4) / (1 / 5)))


def test_equal_counts_of_right_answers_have_the_spread_of_rounding():
    found = paired([97.0] * 5, [97.0] * 5, resolution=1.0)
    assert float(found.spread) == pytest.approx(1 / math.sqrt(6))
    assert float(found.p_equivalent(0.2)) > 0.05, "a fifth of an image"


def test_an_interaction():
    seeds = np.array([0.1, -0.2, 0.3, 0.0])[:, None]
    noise = np.array([[0.01, -0.01, 0.0], [0.0, 0.02, -0.01], [-0.02, 0.0, 0.01], [0.01, -0.01, 0.0]])
    assert float(interaction(seeds + noise)) > 0.05
    assert float(interaction(seeds + noise + [0.0, 0.5, -0.5])) < 0.001


def test_the_interval_of_a_mean():
    expected = stats.t.interval(0.95, len(ONE) - 1, np.mean(ONE), stats.sem(ONE))
    assert mean_interval(ONE, 0.95) == pytest.approx(expected)
    assert all(math.isnan(end) for end in mean_interval([97.0], 0.95))
    assert all(math.isnan(end) for end in mean_interval([97.0, 97.0], 0.95))


def test_one_pair_has_no_spread():
    found = paired([97.0], [95.0])
    assert (float(found.p_different()), float(found.p_equivalent(5.0))) == (1.0, 1.0)
    assert math.isnan(float(found.spread))
    assert all(math.isnan(float(end)) for end in found.interval(0.95))
    assert math.isnan(float(runs_needed(found.spread, 0.2, 0.05)))


def test_equal_pairs_show_nothing():
    found = paired([97.1, 98.2, 96.9], [97.1, 98.2, 96.9])
    assert (float(found.mean), float(found.error)) == (0.0, 0.0)
    assert (float(found.p_different()), float(found.p_equivalent(0.2))) == (1.0, 1.0)


@pytest.mark.parametrize(("runs", "p"), [(2, 0.5), (5, 0.0625), (6, 0.03125)])
def test_one_and_the_same_difference_is_judged_by_its_sign(runs, p):
    """All differences are one image of 359; as floats they are not quite equal, and t would be 1e13."""
    right = np.arange(330, 330 + 3 * runs, 3)
    values, reference = 100 * (right + 1) / 359, 100 * right / 359
    assert 0 < np.std(values - reference) < 1e-12, "the rounding that this test is about"
    found = paired(values, reference)
    assert float(found.p_different()) == p
    assert float(found.p_equivalent(5.0)) == 1.0


def test_holm():
    """The p-values of an example worked by hand: 0.01 * 4, 0.02 * 3, then no smaller than before."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([[0.5, 0.001], [0.2, 0.9]]) == pytest.approx(np.array([[0.5, 0.002], [0.4, 0.9]]))
    assert holm([0.7]) == pytest.approx([0.7])


@pytest.mark.parametrize(("spread", "margin", "runs"), [(0.15, 0.1, 44), (0.15, 0.2, 16), (0.2, 0.5, 10)])
def test_runs_needed_for_known_spreads(spread, margin, runs):
    """With the normal distribution in place of t: (spread sqrt(2) / margin)^2 (1.645 + 1.282)^2 = 39, 10 and 3."""
    deviation = spread * math.sqrt(2)
    assert float(runs_needed(deviation, margin, 0.05)) == runs
    assert power_to_show_equivalence(runs, margin / deviation, 0.05) >= 0.8
    assert power_to_show_equivalence(runs - 1, margin / deviation, 0.05) < 0.8


def test_runs_needed_at_the_ends():
    assert float(runs_needed(1e-9, 0.2, 0.05)) == 2
    assert math.isinf(float(runs_needed(100.0, 0.2, 0.05)))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_error_rates(setting):
    """A thousand sweeps, and five times as many for a bound that chance does not pass (three standard errors)."""
    _, _, covered = rates(setting, 1000)
    assert 0.93 <= covered <= 0.97
    different, equivalent, _ = rates(setting, 5000)
    assert different <= 0.05 + 0.0093
    assert equivalent <= 0.05 + 0.0093


def test_without_holm_the_rates_would_have_been_too_high(monkeypatch):
    _, by_holm, _ = rates(SETTINGS[-2], 2000)
    monkeypatch.setattr("runner.report.comparison.holm", lambda p: p)
    different, equivalent, _ = rates(SETTINGS[-2], 2000)
    assert different > 0.1
    assert equivalent > 3 * by_holm


@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_advised_number_of_seeds_is_enough(comparisons):
    seeds, shown = power_of_the_advice(0.15, comparisons, 3000)
    assert shown >= 0.78
    assert power_to_show_equivalence(seeds // 2, MARGIN / (0.15 * math.sqrt(2)), 0.05 / comparisons) < 0.6


def test_before_the_first_look_nothing_is_shown_of_equal_pairs_and_nothing_warned_of():
    equal = paired(np.ones(3), np.ones(3))
    assert (equal.lower(0.0), equal.upper(0.0)) == (-np.inf, np.inf)
