"""The epsilon of several runs together, beside the library's own accountants and the known figure of a sweep."""

import math

import pytest

from runner.privacy.accounting.accountants import epsilon
from runner.privacy.accounting.calibration import solve_noise_multiplier
from runner.privacy.accounting.composition import MOST_UNLIKE, Spent, compose

CELL = {"sample_rate": 512 / 50_000, "steps": round(40 * 50_000 / 512)}
UNLIKE = [
    Spent(sample_rate=0.02, noise_multiplier=1.0, steps=200),
    Spent(sample_rate=0.02, noise_multiplier=1.4, steps=300),
    Spent(sample_rate=0.05, noise_multiplier=2.0, steps=100),
]


@pytest.mark.parametrize(("accountant", "together"), [("rdp", 10.39), ("pld", 10.58)])
def test_nine_cells_at_epsilon_3(accountant, together):
    """N=50k, B=512, 40 epochs; PLD spares noise in each cell, so its cells, of equal epsilon, compose to more."""
    noise = solve_noise_multiplier(accountant, epsilon=3, delta=1e-5, **CELL)
    cells = [Spent(noise_multiplier=noise, **CELL)] * 9
    composed = compose(cells, delta=1e-5, accountant=accountant)
    assert composed.epsilon == pytest.approx(together, abs=0.01)
    assert composed.accountant == accountant
    assert 3 < composed.epsilon < 9 * 3


def test_nine_cells_with_the_noise_of_rdp_cost_less_by_pld():
    noise = solve_noise_multiplier("rdp", epsilon=3, delta=1e-5, **CELL)
    assert compose([Spent(noise_multiplier=noise, **CELL)] * 9, delta=1e-5).epsilon == pytest.approx(9.66, abs=0.01)


def library(accountant, delta):
    """dp-accounting's answer, written as its events."""
    from dp_accounting import dp_event

    for run in UNLIKE:
        step = dp_event.PoissonSampledDpEvent(run.sample_rate, dp_event.GaussianDpEvent(run.noise_multiplier))
        accountant.compose(step, run.steps)
    return accountant.get_epsilon(delta)


def test_unlike_runs_by_rdp_are_the_librarys_figure():
    from dp_accounting.rdp import RdpAccountant

    own = compose(UNLIKE, delta=1e-6, accountant="rdp")
    assert own.epsilon == pytest.approx(library(RdpAccountant(), 1e-6), rel=1e-9)


def test_unlike_runs_by_pld_bound_the_truth_from_above_and_closely():
    from dp_accounting.pld import privacy_loss_distribution

    own = compose(UNLIKE, delta=1e-6)
    losses = [
        privacy_loss_distribution.from_gaussian_mechanism(
            run.noise_multiplier,
            sampling_prob=run.sample_rate,
            value_discretization_interval=2e-4,
            pessimistic_estimate=False,
            use_connect_dots=False,
        ).self_compose(run.steps)
        for run in UNLIKE
    ]
    below = losses[0].compose(losses[1]).compose(losses[2]).get_epsilon_for_delta(1e-6)
    assert below <= own.epsilon < below + 0.1
    assert own.epsilon < compose(UNLIKE, delta=1e-6, accountant="rdp").epsilon


def test_equal_runs_cost_what_one_long_run_costs():
    parts = [Spent(sample_rate=0.02, noise_multiplier=1.3, steps=steps) for steps in (700, 500, 300)]
    for accountant in ("pld", "rdp"):
        long = epsilon(accountant, sample_rate=0.02, noise_multiplier=1.3, steps=1500, delta=1e-5)
        assert compose(parts, delta=1e-5, accountant=accountant).epsilon == long


def test_many_unlike_runs_and_tiny_deltas_fall_back_to_rdp():
    many = [Spent(sample_rate=0.01, noise_multiplier=1 + 0.01 * i, steps=10) for i in range(MOST_UNLIKE + 1)]
    assert compose(many, delta=1e-5).accountant == "rdp"
    assert compose(many[:-1], delta=1e-5).accountant == "pld"
    assert compose(many[:1], delta=1e-12).accountant == "rdp"


def test_nothing_and_no_noise():
    assert compose([], delta=1e-5).epsilon == 0
    assert compose([Spent(sample_rate=0.1, noise_multiplier=1.0, steps=0)], delta=1e-5).epsilon == 0
    assert math.isinf(compose([Spent(sample_rate=0.1, noise_multiplier=0.0, steps=1)], delta=1e-5).epsilon)
