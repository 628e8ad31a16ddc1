"""The epsilon of publishing the best of a random number of runs: the paper's formula, and truth where it is known."""

import math
import random

import numpy as np
import pytest
from scipy.stats import norm

from runner.privacy.accounting import accountants, dp_accounting_calls
from runner.privacy.accounting.composition import Spent, compose
from runner.privacy.accounting.random_stopping import TrialCount, epsilon_of_best

RUN = Spent(sample_rate=0.02, noise_multiplier=1.1, steps=1500)
SHAPES = (0.0, 0.5, 1.0, 4.0)


@pytest.mark.parametrize(("mean", "logarithmic", "geometric"), [(5, 6.44, 7.16), (20, 7.38, 8.65), (100, 8.28, 10.07)])
def test_known_figures(mean, logarithmic, geometric):
    """Where the run costs 4.41 by itself and 20 of them compose to 23.8."""
    found = [epsilon_of_best(RUN, TrialCount(mean=mean, shape=shape), delta=1e-5) for shape in (0.0, 1.0)]
    assert found == pytest.approx([logarithmic, geometric], abs=0.01)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [1.5, 9.0, 40.0])
def test_it_is_theorem_2_of_the_paper(shape, mean):
    """eps' = eps + (1 + eta)(1 - 1/hat) eps_hat + (1 + eta) log(1/gamma) / hat + log(E[K]) / (order - 1)."""
    orders, one = dp_accounting_calls.renyi_divergences(RUN.sample_rate, RUN.noise_multiplier, None)
    orders, single = np.asarray(orders), RUN.steps * np.asarray(one)
    count = TrialCount(mean=mean, shape=shape)
    hat = (1 + shape) * ((1 - 1 / orders) * single + math.log(1 / count.stopping) / orders)
    best = single + hat.min() + math.log(mean) / (orders - 1)
    # divergences rise with their order, so that each bounds those below it
    best = np.minimum.accumulate(best[::-1])[::-1]
    expected = dp_accounting_calls.epsilon_of_divergences(orders, best, 1e-5)
    assert epsilon_of_best(RUN, count, delta=1e-5) == pytest.approx(expected, rel=1e-6)


def test_it_costs_more_than_one_run_and_less_than_all():
    one = compose([RUN], delta=1e-5, accountant="rdp").epsilon
    every = [epsilon_of_best(RUN, TrialCount(mean=mean, shape=1.0), delta=1e-5) for mean in (1, 9, 30, 100)]
    assert one < every[0]
    assert every == sorted(every)
    for found, cells in zip(every[1:], (9, 30, 100), strict=True):
        assert found < compose([RUN] * cells, delta=1e-5).epsilon


def hockey_stick(count, sigma, epsilon, starts=1):
    """The exact delta of publishing the largest of K outputs of a Gaussian mechanism, by its distribution function.

    Each output is itself the largest of so many ``starts``.
    """
    outputs = np.linspace(-8 * sigma, 8 * sigma + 1, 20_001)
    gamma, shape = count.stopping, count.shape

    def law(shift):
        # E[F^K], the probability that all K lie below, in closed form
        one = norm.cdf(outputs, shift, sigma) ** starts
        if gamma == 1:
            return one
        rest = np.log1p(-(1 - gamma) * one)
        return rest / math.log(gamma) if shape == 0 else np.expm1(-shape * rest) / math.expm1(-shape * math.log(gamma))

    masses = [np.diff(law(shift)) for shift in (0.0, 1.0)]
    return max(np.clip(p - math.exp(epsilon) * q, 0, None).sum() for p, q in (masses, masses[::-1]))


@pytest.mark.parametrize("shape", [0.0, 1.0])
def test_trials_that_are_begun_anew_and_not_counted_break_the_bound(shape):
    """Each of the K trials is begun five times, the best of the five is kept, and K is what is accounted for."""
    count, sigma, delta = TrialCount(mean=2, shape=shape), 2.0, 1e-3
    bound = epsilon_of_best(Spent(sample_rate=1.0, noise_multiplier=sigma, steps=1), count, delta=delta)
    assert hockey_stick(count, sigma, bound) <= delta
    assert hockey_stick(count, sigma, bound, starts=5) > delta
    # what is counted instead holds: all of them, composed
    every = compose([Spent(sample_rate=1.0, noise_multiplier=sigma, steps=1)] * 5, delta=delta, accountant="rdp")
    assert hockey_stick(TrialCount(mean=1, shape=shape), sigma, every.epsilon, starts=5) <= delta


@pytest.mark.parametrize("shape", [0.0, 1.0])
def test_it_bounds_the_truth_where_the_best_is_the_largest_output(shape):
    count, sigma, delta = TrialCount(mean=10, shape=shape), 2.0, 1e-3
    run = Spent(sample_rate=1.0, noise_multiplier=sigma, steps=1)
    bound = epsilon_of_best(run, count, delta=delta)
    assert hockey_stick(count, sigma, bound) <= delta
    # the control: what one run costs is not enough for the best of several, so that the selection is really in there
    assert hockey_stick(count, sigma, accountants.epsilon("pld", sample_rate=1.0, noise_multiplier=sigma, steps=1,
                                                         delta=delta)) > 1.2 * delta  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [1.0, 1.5, 9.0, 100.0])
def test_the_number_of_trials_has_its_distribution(shape, mean):
    count = TrialCount(mean=mean, shape=shape)
    probabilities = np.array(count.probabilities(20_000))
    number = np.arange(1, len(probabilities) + 1)
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)
    assert probabilities @ number == pytest.approx(mean, rel=1e-6)
    gamma = count.stopping
    if shape == 1.0:
        assert gamma == pytest.approx(1 / mean)
        assert probabilities[:5] == pytest.approx([gamma * (1 - gamma) ** k for k in range(5)])
    if shape == 0.0 and mean > 1:
        assert probabilities[:5] == pytest.approx([-((1 - gamma) ** k) / (k * math.log(gamma)) for k in range(1, 6)])
    source = random.Random(1)
    drawn = np.array([count.draw(source) for _ in range(400)])
    assert drawn.min() >= 1
    deviation = math.sqrt(probabilities @ (number - mean) ** 2 / 400)
    assert abs(drawn.mean() - mean) <= 4 * deviation


def test_nothing_and_no_noise():
    count = TrialCount(mean=5, shape=1.0)
    assert epsilon_of_best(Spent(sample_rate=0.1, noise_multiplier=1.0, steps=0), count, delta=1e-5) == 0
    assert math.isinf(epsilon_of_best(Spent(sample_rate=0.1, noise_multiplier=0.0, steps=1), count, delta=1e-5))
