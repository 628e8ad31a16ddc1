import math
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from runner.errors import RequestError
from runner.privacy.accounting import accountants, dp_accounting_calls
from runner.privacy.accounting.accountants import ACCOUNTANTS, default_delta, epsilon
from runner.privacy.accounting.calibration import solve_noise_multiplier, solve_steps
from runner.privacy.accounting.step_epsilon import Spending

KNOWN = {"sample_rate": 512 / 50_000, "noise_multiplier": 1.0, "steps": 970, "delta": 1e-5}
SHORT = {"sample_rate": 0.02, "noise_multiplier": 1.311, "steps": 1500, "delta": 1e-5}


def optimistic_pld(sample_rate, noise_multiplier, steps, delta):
    """A lower bound on epsilon: dp-accounting with every rounding turned the other way."""
    from dp_accounting.pld import privacy_loss_distribution

    return (
        privacy_loss_distribution.from_gaussian_mechanism(
            noise_multiplier,
            sampling_prob=sample_rate,
            pessimistic_estimate=False,
            use_connect_dots=False,
            value_discretization_interval=2e-4,
        )
        .self_compose(steps)
        .get_epsilon_for_delta(delta)
    )


def exact_gaussian(noise_multiplier, steps, delta):
    """Balle and Wang 2018, theorem 8: without sampling, steps compose to one Gaussian of mu = sqrt(steps) / sigma."""
    mu = math.sqrt(steps) / noise_multiplier

    def excess(value):
        return norm.cdf(mu / 2 - value / mu) - math.exp(value + norm.logcdf(-mu / 2 - value / mu)) - delta

    return brentq(excess, 0, 100)


def exact_gaussian_in_forty_digits(noise_multiplier, steps, delta):
    """The same for a small delta, where float64 has no digits left: from below, to 1e-15."""
    from mpmath import mp, mpf, ncdf

    with mp.workdps(40):
        mu = mp.sqrt(steps) / mpf(noise_multiplier)
        low, high = mpf(0), mpf(100)
        for _ in range(60):
            middle = (low + high) / 2
            excess = ncdf(mu / 2 - middle / mu) - mp.exp(middle) * ncdf(-mu / 2 - middle / mu) - delta
            low, high = (middle, high) if excess > 0 else (low, middle)
        return float(low)


def directly_convolved(sample_rate, noise_multiplier, doublings, delta):
    """A lower bound on epsilon for 2^doublings steps: losses rounded down, and sums of products of positive numbers.

    Without transforms each mass is right to 1e-13 of itself, however small.
    """
    from dp_accounting.pld import privacy_loss_distribution

    grid = 4e-3
    loss = privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, sampling_prob=sample_rate, pessimistic_estimate=False, use_connect_dots=False,
        value_discretization_interval=grid,
    )._pmf_remove.to_dense_pmf()  # fmt: skip
    masses, first = np.array(loss._probs), loss._lower_loss
    for _ in range(doublings):
        masses, first = np.convolve(masses, masses), 2 * first
        kept = np.flatnonzero(masses > 1e-25)
        masses, first = masses[kept[0] : kept[-1] + 1], first + kept[0]
    losses = grid * (first + np.arange(len(masses)))

    def excess(value):
        far = losses > value
        return float(np.dot(masses[far], -np.expm1(value - losses[far]))) - delta

    return brentq(excess, 0, 50)


def random_mechanisms(count, seed):
    draw = random.Random(seed)
    found = []
    while len(found) < count:
        mechanism = {
            "sample_rate": 10 ** draw.uniform(-3.5, -0.3),
            "noise_multiplier": 10 ** draw.uniform(-0.2, 1),
            "steps": int(10 ** draw.uniform(0, 3.5)),
            "delta": 10 ** draw.uniform(-8, -4),
        }
        if 0.02 < accountants.quick_rdp(**mechanism) < 20:
            found.append(mechanism)
    return found


@pytest.mark.parametrize(("accountant", "expected"), [("rdp", 2.124), ("prv", 1.859), ("pld", 1.849)])
def test_known_figures(accountant, expected):
    assert epsilon(accountant, **KNOWN) == pytest.approx(expected, abs=6e-4)


def test_pld_agrees_with_dp_accounting_at_its_own_settings():
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    reference = PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(0.02, dp_accounting.GaussianDpEvent(1.311))
    reference.compose(event, 1500)
    assert epsilon("pld", **SHORT) == pytest.approx(reference.get_epsilon(1e-5), abs=1e-4)


@pytest.mark.filterwarnings("ignore:Optimal order:UserWarning", "ignore:divide by zero:RuntimeWarning")
def test_prv_agrees_with_opacus_whose_transforms_may_have_slow_lengths():
    from opacus.accountants import PRVAccountant

    reference = PRVAccountant()
    reference.history = [(1.311, 0.02, 1500)]
    assert epsilon("prv", **SHORT) == pytest.approx(reference.get_epsilon(1e-5, eps_error=0.01), abs=1e-6)


@pytest.mark.parametrize("mechanism", random_mechanisms(6, seed=0), ids=lambda m: f"{m['steps']}")
def test_every_accountant_is_an_upper_bound(mechanism):
    lower = optimistic_pld(**mechanism)
    found = {accountant: epsilon(accountant, **mechanism) for accountant in ACCOUNTANTS}
    assert min(found.values()) >= lower
    assert found["pld"] <= found["prv"]
    assert found["pld"] <= found["rdp"]


def test_the_lower_bound_tells_the_central_limit_figure_from_a_bound():
    # GDP, which is not offered, gives 1.633 here
    assert optimistic_pld(**KNOWN) > 1.7


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(("noise", "steps"), [(10.0, 100), (3.0, 1)])
def test_without_sampling_it_is_the_gaussian_mechanism(accountant, noise, steps):
    exact = exact_gaussian(noise, steps, 1e-5)
    found = epsilon(accountant, sample_rate=1.0, noise_multiplier=noise, steps=steps, delta=1e-5)
    slack = {"pld": 1e-3, "prv": 0.02, "rdp": 0.4}[accountant]
    assert exact <= found <= exact + slack


def random_gaussians(count, seed):
    """Many steps without sampling that cost 0.2 to 15, at a small delta."""
    draw = random.Random(seed)
    for _ in range(count):
        steps = int(10 ** draw.uniform(4, 5))
        yield steps, math.sqrt(steps) / 10 ** draw.uniform(-1.5, 0.4), 10 ** draw.uniform(-10, -8)


BELOW = {"noise_multiplier": 88.5537, "steps": 19_833, "delta": 1e-10}
"""Where dp-accounting's own sum lies below the truth."""


@pytest.mark.parametrize(
    ("steps", "noise", "delta"), [*random_gaussians(6, seed=3), (BELOW["steps"], BELOW["noise_multiplier"], 1e-10)]
)
def test_many_steps_at_a_small_delta_are_bounded_from_above(steps, noise, delta):
    exact = exact_gaussian_in_forty_digits(noise, steps, delta)
    found = epsilon("pld", sample_rate=1.0, noise_multiplier=noise, steps=steps, delta=delta)
    # each step rounds losses up by at most a quarter of the grid's square on average (measured), which is kept to 1e-3
    assert exact <= found <= exact + 1e-3 * steps / 1e4 + 1e-2 * exact


def test_the_librarys_own_sum_lies_below_the_truth():
    from dp_accounting.pld import privacy_loss_distribution

    grid = accountants._loss_grid(
        accountants.quick_rdp(1.0, BELOW["noise_multiplier"], BELOW["steps"], BELOW["delta"]), BELOW["steps"]
    )
    one = privacy_loss_distribution.from_gaussian_mechanism(
        BELOW["noise_multiplier"], value_discretization_interval=grid, pessimistic_estimate=True
    )
    by_library = one.self_compose(BELOW["steps"]).get_epsilon_for_delta(BELOW["delta"])
    assert by_library < exact_gaussian_in_forty_digits(**BELOW) - 5e-4


@pytest.mark.parametrize("delta", [1e-10, 1e-14, 1e-20])
@pytest.mark.parametrize(("noise", "steps"), [(2.0, 1), (30.0, 100), (50.0, 1000)])
def test_the_tail_is_as_exact_as_the_middle(noise, steps, delta):
    from runner.privacy.accounting.tilted_losses import epsilon_of_sum

    grid = 2e-4
    one = dp_accounting_calls.loss_distribution(1.0, noise, grid, accountants._mass_cut(steps, delta))
    found = epsilon_of_sum([(one, steps)], grid=grid, delta=delta)
    exact = exact_gaussian_in_forty_digits(noise, steps, delta)
    assert exact <= found <= exact + 1e-4
    # unlike parts, multiplied one by one, are no less exact
    if steps > 1:
        parts = [(one, steps // 4), (one, steps - steps // 4)]
        assert exact <= epsilon_of_sum(parts, grid=grid, delta=delta) <= exact + 1e-4


@pytest.mark.parametrize(("rate", "noise"), [(0.05, 0.8), (0.2, 2.0), (0.5, 4.0)])
def test_sampled_steps_at_a_small_delta_are_bounded_from_above(rate, noise):
    lower = directly_convolved(rate, noise, 5, 1e-10)
    found = epsilon("pld", sample_rate=rate, noise_multiplier=noise, steps=32, delta=1e-10)
    assert lower <= found <= lower + 32 * 4e-3


@pytest.mark.parametrize("steps", [300, 3_000, 30_000])
@pytest.mark.parametrize("delta", [1e-6, 1e-8, 1e-10])
def test_prv_is_a_bound_or_refused(steps, delta):
    mechanism = {"sample_rate": 1.0, "noise_multiplier": math.sqrt(steps), "steps": steps, "delta": delta}
    if steps / delta > 1e13:
        with pytest.raises(RequestError, match=r"pld or rdp: prv cannot represent .* steps and delta 1e-"):
            epsilon("prv", **mechanism)
        return
    exact = exact_gaussian_in_forty_digits(mechanism["noise_multiplier"], steps, delta)
    # its interval, and at most half of delta for rounding, which falls at least as fast as exp(-5 epsilon) here
    assert exact <= epsilon("prv", **mechanism) <= exact + 0.03 + math.log(2) / 5


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_edges(accountant):
    assert epsilon(accountant, **(SHORT | {"steps": 0})) == 0.0
    assert epsilon(accountant, **(SHORT | {"noise_multiplier": 0.0})) == math.inf
    assert epsilon(accountant, **(SHORT | {"noise_multiplier": 0.0, "steps": 0})) == 0.0


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("data.batch_size", {"sample_rate": 1.5}),
        ("data.batch_size", {"sample_rate": 0.0}),
        ("privacy.noise_multiplier", {"noise_multiplier": -1.0}),
        ("privacy.noise_multiplier", {"noise_multiplier": math.nan}),
        ("trainer.steps", {"steps": -1}),
        ("privacy.delta", {"delta": 0.0}),
        ("privacy.delta", {"delta": 1.0}),
        ("privacy.delta", {"delta": 1e-11}),
    ],
)
def test_values_out_of_range_are_refused(key, change):
    with pytest.raises(RequestError) as refusal:
        epsilon("pld", **(SHORT | change))
    assert refusal.value.key == key


def test_an_unknown_accountant_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match=r"privacy\.accountant: got gdp, expected one of pld, prv, rdp"):
        epsilon("gdp", **SHORT)
    with pytest.raises(RequestError, match="did you mean pld"):
        epsilon("pdl", **SHORT)


def test_tiny_deltas_are_for_renyi():
    assert epsilon("rdp", **(SHORT | {"delta": 1e-14})) == pytest.approx(6.15, abs=0.1)


def test_huge_epsilon_neither_fails_nor_fills_the_memory():
    found = epsilon("pld", sample_rate=0.5, noise_multiplier=0.05, steps=1000, delta=1e-5)
    assert 1e4 < found < math.inf
    with pytest.raises(RequestError, match="pld or rdp: prv cannot represent"):
        epsilon("prv", sample_rate=0.5, noise_multiplier=0.05, steps=1000, delta=1e-5)


@pytest.mark.parametrize(("accountant", "expected"), [("pld", 1.311), ("rdp", 1.388)])
def test_known_noise(accountant, expected):
    noise = solve_noise_multiplier(accountant, epsilon=3.0, delta=1e-5, sample_rate=0.02, steps=1500)
    assert noise == pytest.approx(expected, abs=1.5e-3)


def test_the_default_asks_for_the_least_noise(configure):
    question = {"epsilon": 3.0, "delta": 1e-5, "sample_rate": 0.02, "steps": 1500}
    noise = {accountant: solve_noise_multiplier(accountant, **question) for accountant in ACCOUNTANTS}
    assert configure("trainer=dp").privacy.accountant == min(noise, key=noise.get)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(
    ("target", "sample_rate", "steps", "delta"),
    [(3.0, 0.02, 1500, 1e-5), (1.0, 64 / 1437, 674, 1e-5), (0.1, 0.01, 300, 1e-6), (3.0, 1.0, 30, 1e-5)],
)
def test_solved_noise_meets_the_target_from_below(accountant, target, sample_rate, steps, delta):
    settings = {"delta": delta, "sample_rate": sample_rate, "steps": steps}
    noise = solve_noise_multiplier(accountant, epsilon=target, **settings)
    found = epsilon(accountant, noise_multiplier=noise, **settings)
    assert target - 0.01 < found <= target
    assert found > 0.997 * target
    assert noise == round(noise, 6)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_solved_steps_are_the_last_that_fit(accountant):
    settings = {"delta": 1e-5, "sample_rate": 0.02, "noise_multiplier": 1.5}
    steps = solve_steps(accountant, epsilon=2.0, **settings)
    assert 400 < steps < 1500
    assert epsilon(accountant, steps=steps, **settings) <= 2.0 < epsilon(accountant, steps=steps + 1, **settings)


def test_no_step_fits_a_budget_below_the_first():
    settings = {"delta": 1e-5, "sample_rate": 0.5, "noise_multiplier": 0.5}
    assert solve_steps("pld", epsilon=0.5, **settings) == 0
    assert solve_steps("pld", epsilon=0.5, **(settings | {"noise_multiplier": 0.0})) == 0


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_impossible_targets_are_refused(target):
    for solve, settings in (
        (solve_noise_multiplier, {"steps": 10}),
        (solve_steps, {"noise_multiplier": 1.0}),
    ):
        with pytest.raises(RequestError, match=r"privacy\.epsilon"):
            solve("pld", epsilon=target, delta=1e-5, sample_rate=0.1, **settings)


def test_noise_that_leaves_nothing_to_account_for_costs_nothing_that_shows():
    # Renyi's bound is exactly 0 here, and the search for the noise comes through such places
    mechanism = {"sample_rate": 1e-3, "noise_multiplier": 1e4, "steps": 1, "delta": 1e-4}
    assert accountants.quick_rdp(**mechanism) == 0
    assert 0 <= epsilon("pld", **mechanism) < 1e-6


@pytest.mark.parametrize(
    ("accountant", "target", "bound"), [("rdp", 1e-3, "at least"), ("prv", 5e-3, "at least"), ("pld", 1e7, "at most")]
)
def test_unreachable_targets_say_what_is_reachable(accountant, target, bound):
    with pytest.raises(RequestError, match=rf"privacy\.epsilon: got {target}, expected {bound} \d"):
        solve_noise_multiplier(accountant, epsilon=target, delta=1e-6, sample_rate=0.01, steps=1000)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_spending_rises_to_the_reported_figure_and_bounds_every_step(accountant):
    spending = Spending(accountant, **(SHORT | {"steps": 300}))
    counts = [0, 1, 100, 299, 300]
    found = [spending.epsilon_after(steps) for steps in counts]
    assert found[0] == 0.0
    assert found == sorted(found)
    assert found[-1] == spending.final == epsilon(accountant, **(SHORT | {"steps": 300}))
    for steps, value in zip(counts[1:], found[1:], strict=True):
        reported = spending.reported_after(steps)
        assert reported - 1e-9 <= value <= reported + 0.06
    assert spending.epsilon_after(310) > spending.final
    assert spending.charged(200, "interrupted") == spending.reported_after(200) < spending.final
    assert spending.charged(200, "pruned") == spending.final


def test_spending_never_passes_a_solved_budget():
    noise = solve_noise_multiplier("pld", epsilon=2.0, delta=1e-5, sample_rate=0.01, steps=400)
    spending = Spending("pld", sample_rate=0.01, noise_multiplier=noise, delta=1e-5, steps=400)
    assert max(spending.epsilon_after(steps) for steps in range(395, 401)) <= 2.0
    assert 400 <= spending.steps_within(2.0) <= 402


def test_spending_without_noise_is_infinite_from_the_first_step():
    spending = Spending("pld", **(SHORT | {"noise_multiplier": 0.0}))
    assert [spending.epsilon_after(steps) for steps in (0, 1, 1500)] == [0.0, math.inf, math.inf]


def test_a_line_per_epoch_is_cheap():
    spending = Spending("pld", **SHORT)
    spending.epsilon_after(1)
    start = time.process_time()
    for steps in range(100, 1100, 100):
        spending.epsilon_after(steps)
    # measured: 0.015 s each
    assert time.process_time() - start < 10 * 0.1


@pytest.mark.parametrize(
    ("n", "delta"),
    [(10, 1e-5), (1437, 1e-5), (9_999, 1e-5), (10_000, 1e-5), (10_001, 1e-6), (50_000, 1e-6), (10**6, 1e-7)],
)
def test_default_delta(n, delta):
    assert default_delta(n) == delta
    assert default_delta(n) * 10 * n <= 1


def test_heavy_libraries_load_when_a_figure_is_asked_for():
    code = (
        "import sys; from runner.privacy.accounting import accountants, calibration\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'dp_accounting', 'opacus') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
