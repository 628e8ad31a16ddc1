import numpy as np
import pytest

from runner.audit.checks import LEVEL, batch_checks, clipping_check, noise_checks

STEPS, VALUES, DEVIATION = 40, 500, 0.02
DEVIATION_CHECK, NORMAL, DIFFERENT = (
    "noise: standard deviation",
    "noise: normal distribution",
    "noise: another in each step",
)
MEAN, VARIANCE = "Poisson batches: mean size", "Poisson batches: variance of the size"


def right(seed=0):
    return np.random.default_rng(seed).normal(0.0, DEVIATION, (STEPS, VALUES))


def failed(checks):
    return {check.name for check in checks if not check.passed}


def laplace():
    return np.random.default_rng(0).laplace(0.0, DEVIATION / np.sqrt(2), (STEPS, VALUES))


def one_step_again():
    noise = right()
    noise[31] = noise[4]
    return noise


def one_step_mirrored():
    noise = right()
    noise[31] = -noise[4]
    return noise


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (right(), set()),
        (right() * 1.05, {DEVIATION_CHECK}),
        (right() / 1.05, {DEVIATION_CHECK}),
        (laplace(), {NORMAL}),
        (right() + DEVIATION / 10, {NORMAL, DEVIATION_CHECK, DIFFERENT}),
        (one_step_again(), {DIFFERENT}),
        (one_step_mirrored(), {DIFFERENT}),
        (np.zeros((STEPS, VALUES)), {DEVIATION_CHECK, NORMAL, DIFFERENT}),
    ],
    ids=["right", "too large", "too small", "laplace", "biased", "repeated", "mirrored", "none"],
)
def test_noise(noise, expected):
    found = failed(noise_checks(noise, deviation=DEVIATION))
    assert found == expected if expected != {NORMAL, DEVIATION_CHECK, DIFFERENT} else found <= expected and found


def sizes(steps=200, seed=0):
    return np.random.default_rng(seed).binomial(600, 0.25, steps).tolist()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (sizes(), set()),
        ([150] * 200, {VARIANCE}),
        ([150, 150, 150, 50] * 50, {MEAN, VARIANCE}),
        ([size + 5 for size in sizes()], {MEAN}),
        (np.random.default_rng(0).binomial(600, 1 / 3, 200).tolist(), {MEAN}),
    ],
    ids=["poisson", "shuffled", "shuffled with a remainder", "five more", "one over the length of the loader"],
)
def test_batches(sizes, expected):
    assert failed(batch_checks(sizes, examples=600, rate=0.25)) == expected


def test_a_rate_of_one_takes_every_example():
    assert not failed(batch_checks([600] * 20, examples=600, rate=1.0))
    assert failed(batch_checks([600] * 19 + [599], examples=600, rate=1.0)) == {MEAN, VARIANCE}


def contributions(factor, seed=0, canaries=500, steps=100, rate=0.25, clip=2.0, sigma=4.0):
    random = np.random.default_rng(seed)
    times = random.binomial(steps, rate, canaries)
    return factor * clip * times + random.normal(0.0, sigma * clip * np.sqrt(steps), canaries)


@pytest.mark.parametrize(("factor", "passes"), [(0.5, True), (1.0, True), (1.5, False), (8.0, False)])
def test_clipping(factor, passes):
    found = clipping_check(contributions(factor), steps=100, rate=0.25, max_grad_norm=2.0, noise_multiplier=4.0)
    assert found.passed == passes


def test_right_clipping_fails_as_rarely_as_stated():
    values = [
        clipping_check(contributions(1.0, seed), steps=100, rate=0.25, max_grad_norm=2.0, noise_multiplier=4.0).p_value
        for seed in range(300)
    ]
    assert min(values) >= LEVEL
    assert 3 <= sum(value < 0.05 for value in values) <= 30


def test_right_noise_and_batches_fail_as_rarely_as_stated():
    p_values = {}
    for seed in range(300):
        checks = [
            *noise_checks(right(seed), deviation=DEVIATION),
            *batch_checks(sizes(50, seed), examples=600, rate=0.25),
        ]
        for check in checks:
            p_values.setdefault(check.name, []).append(check.p_value)
    for name, values in p_values.items():
        values = np.array(values)
        assert (values < LEVEL).sum() <= 1, name
        # 5 % of 300 is 15; 30 lies four deviations above
        assert (values < 0.05).sum() <= 30, name
