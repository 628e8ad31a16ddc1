import numpy as np
import pytest
from scipy.special import expit

from runner.audit.bound import Guesses, epsilon_lower_bound, guess, largest_bound, p_value

# (canaries, guesses, right, delta), epsilon at 95 %, p-value at epsilon 1: computed with jax_privacy's auditing module
# (commit 8967688, _epsilon_one_run and _one_run_p_value)
REFERENCE = [
    ((1000, 200, 200, 1e-05), 4.16649018, 0.000298197714168),
    ((1000, 200, 151, 1e-05), 0.84496272, 0.250367207431),
    ((400, 200, 180, 1e-05), 1.79783654, 0.000174491559243),
    ((1000, 100, 95, 0.001), 0.59431369, 0.0663900009699),
    ((200, 200, 170, 0.0), 1.39940406, 4.39737642285e-05),
    ((5000, 1000, 900, 1e-06), 2.02093986, 4.97432485208e-05),
    ((50, 20, 20, 0.01), 0.00000000, 0.124070965061),
]


@pytest.mark.parametrize(("case", "epsilon", "p"), REFERENCE, ids=lambda value: str(value))
def test_equals_jax_privacy(case, epsilon, p):
    canaries, made, right, delta = case
    guesses = Guesses(canaries=canaries, made=made, right=right)
    assert p_value(guesses, epsilon=1.0, delta=delta) == pytest.approx(p, rel=1e-9)
    assert epsilon_lower_bound(guesses, delta=delta, confidence=0.95) == pytest.approx(epsilon, abs=3e-6)


def bounds(made, canaries, delta):
    """The bound for every number of right guesses: ``[made + 1]``."""
    return np.array(
        [
            epsilon_lower_bound(Guesses(canaries=canaries, made=made, right=right), delta=delta, confidence=0.95)
            for right in range(made + 1)
        ]
    )


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 3.0])
def test_randomized_response_stays_above_the_bound_95_times_in_100(epsilon):
    """The mechanism that is exactly epsilon-private and for which nothing is lost: each bit is told truly or not."""
    made, runs = 500, 20_000
    right = np.random.default_rng(1).binomial(made, expit(epsilon), runs)
    found = bounds(made, made, 0.0)[right]
    wrong = (found > epsilon).mean()
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    # a bound that always said zero would pass: it must come near, and be wrong about as often as it may be
    assert np.median(found) > epsilon - 0.45
    assert wrong > 0.02


def test_a_mechanism_that_fails_with_probability_delta_needs_the_second_term():
    """Randomized response that tells each bit outright with probability delta."""
    epsilon, delta, made, runs = 1.0, 0.05, 200, 20_000
    random = np.random.default_rng(2)
    told = random.binomial(made, delta, runs)
    right = told + random.binomial(made - told, expit(epsilon))
    assert (bounds(made, made, delta)[right] > epsilon).mean() <= 0.05
    assert (bounds(made, made, 0.0)[right] > epsilon).mean() > 0.1, "the control: delta left out"


def test_guessing_takes_both_ends_and_leaves_out_the_middle():
    scores = np.array([5.0, -9.0, 1.0, 0.5, 9.0, -5.0])
    present = np.array([True, False, False, True, True, True])
    assert guess(scores, present, guesses=4) == Guesses(canaries=6, made=4, right=3)
    assert guess(-scores, present, guesses=4) == Guesses(canaries=6, made=4, right=1)


def test_blind_guessing_refutes_nothing():
    random = np.random.default_rng(3)
    found = [
        epsilon_lower_bound(
            guess(random.normal(size=1000), random.integers(0, 2, 1000) == 1, guesses=200), delta=1e-5, confidence=0.95
        )
        for _ in range(200)
    ]
    assert 0 < np.count_nonzero(found) < 20
    assert max(found) < 0.5


def test_the_bound_grows_with_right_guesses_and_is_largest_when_all_are_right():
    found = bounds(60, 300, 1e-5)
    assert (np.diff(found) >= 0).all()
    assert found[30] == 0.0
    assert found[-1] == largest_bound(300, 60, delta=1e-5, confidence=0.95)
