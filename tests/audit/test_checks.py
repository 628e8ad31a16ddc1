import numpy as np
import pytest

from runner.audit.checks import LEVEL, Check, at_one_level, batch_checks, clipping_check
from runner.audit.inclusions import inclusion_checks
from runner.audit.released_noise import Noise, noise_checks
from runner.audit.tails import counted, products

STEPS = 40
SHAPES = (288, 8, 600, 1, 90)
DEVIATION, COMMON, NORMAL, STEP, LATER, TENSOR, WITHIN = (
    "noise: deviation of each tensor",
    "noise: no part in common",
    "noise: normal in each tensor",
    "noise: another in each step",
    "noise: no echo in later steps",
    "noise: another in each tensor",
    "noise: no echo within a step",
)
MEAN, VARIANCE = "batches: mean size", "batches: variance of the size"
RATE, OVER_STEPS, TOGETHER = (
    "batches: rate of each example",
    "batches: unrelated over steps",
    "batches: unrelated examples",
)


def right(seed=0, steps=STEPS):
    random = np.random.default_rng(seed)
    return [random.normal(size=(steps, count)) for count in SHAPES]


def changed(change, seed=0):
    noise = right(seed)
    change(noise)
    return noise


def failed(checks):
    return {check.name for check in checks if not check.passed}


def scale(tensor, factor, steps=slice(None)):
    def change(noise):
        noise[tensor][steps] *= factor

    return changed(change)


def laplace(noise):
    noise[0][:] = np.random.default_rng(1).laplace(0.0, 1 / np.sqrt(2), noise[0].shape)


def one_step_again(noise):
    for tensor in noise:
        tensor[31] = tensor[4]


def one_tensor_again(noise):
    noise[2][31] = -noise[2][4]


def part_in_common(noise):
    shared = np.random.default_rng(1).normal(size=(STEPS, 1))
    noise[2][:] = np.sqrt(0.9) * noise[2] + np.sqrt(0.1) * shared


def echo(noise):
    for tensor in noise:
        tensor[3:] = 0.8 * tensor[3:] + 0.6 * tensor[:-3]


def same_in_two_tensors(noise):
    noise[4][:] = noise[2][:, :90]


def repeating_stream(noise):
    noise[2][:, 300:] = noise[2][:, :300]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (right(), set()),
        (scale(2, 1.05), {DEVIATION}),
        (scale(2, 1 / 1.05), {DEVIATION}),
        (scale(2, 0.0), {DEVIATION}),
        (scale(0, 0.5, slice(7, 8)), {DEVIATION}),
        (changed(laplace), {NORMAL}),
        (changed(one_step_again), {STEP}),
        (changed(one_tensor_again), {STEP}),
        (changed(part_in_common), {COMMON}),
        (changed(echo), {LATER}),
        (changed(same_in_two_tensors), {TENSOR}),
        (changed(repeating_stream), {WITHIN}),
    ],
    ids=[
        *("right", "too large", "too small", "none in a tensor", "half in a step of a tensor", "laplace"),
        *("a step again", "a tensor mirrored", "part in common", "echo", "two tensors alike", "repeating stream"),
    ],
)
def test_noise(noise, expected):
    found = failed(noise_checks(Noise.of(noise)))
    assert expected <= found
    assert bool(found) == bool(expected)


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


def poisson(seed=0, steps=300, examples=200, rate=0.1):
    return np.random.default_rng(seed).random((steps, examples)) < rate


def same_batch_twice():
    return poisson().repeat(2, axis=0)[:300]


def halves_in_turn():
    half = np.arange(200) % 2 == np.arange(300)[:, None] % 2
    return (np.random.default_rng(0).random((300, 200)) < 0.2) & half


def cycle_of_ten():
    return np.random.default_rng(0).integers(0, 10, 200) == np.arange(300)[:, None] % 10


def one_batch_again():
    drawn = poisson()
    drawn[200] = drawn[17]
    return drawn


def twins():
    drawn = poisson()
    drawn[:, 150] = drawn[:, 3]
    return drawn


def never_drawn():
    drawn = poisson(steps=600)
    drawn[:, 60] = False
    return drawn


def blocks():
    return np.random.default_rng(0).random((300, 100)).repeat(2, axis=1) < 0.1


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (poisson(), set()),
        (same_batch_twice(), {OVER_STEPS}),
        (halves_in_turn(), {OVER_STEPS, TOGETHER}),
        (cycle_of_ten(), {OVER_STEPS, RATE, TOGETHER}),
        (one_batch_again(), {OVER_STEPS}),
        (twins(), {TOGETHER}),
        (never_drawn(), {RATE}),
        (blocks(), {TOGETHER}),
    ],
    ids=["poisson", "twice", "halves", "cycle", "one again", "twins", "never drawn", "blocks of two"],
)
def test_inclusions(drawn, expected):
    found = failed(inclusion_checks(drawn, rate=0.1))
    assert expected <= found
    assert bool(found) == bool(expected)


def test_a_full_batch_in_each_step_is_a_poisson_sample_at_rate_one():
    assert not failed(inclusion_checks(np.ones((20, 30), dtype=bool), rate=1.0))


def test_right_noise_and_batches_fail_as_rarely_as_stated():
    p_values = {}
    for seed in range(60):
        checks = [
            *noise_checks(Noise.of(right(seed, steps=15))),
            *inclusion_checks(poisson(seed, steps=60, examples=80), rate=0.1),
        ]
        for check in checks:
            p_values.setdefault(check.name, []).append(check.p_value)
    for name, values in p_values.items():
        values = np.array(values)
        assert (values < LEVEL).sum() <= 1, name
        # 5 % of 60 is 3; 10 lies four deviations above
        assert (values < 0.05).sum() <= 10, name


def test_bounds_on_tails_hold_and_are_no_worse_than_they_must_be():
    from scipy.stats import binom, hypergeom

    for count, drawn, share in [(3, 40, 0.05), (12, 40, 0.05), (90, 400, 0.15), (0, 300, 0.04)]:
        exact = min(binom(drawn, share).sf(count - 1), binom(drawn, share).cdf(count))
        assert exact <= counted(count, drawn, share) <= min(1.0, 5 * exact**0.7)
    together = hypergeom(200, 30, 40)
    assert together.sf(16) <= counted(17, 30, 40 / 200)
    random = np.random.default_rng(0)
    chains = random.normal(size=(20_000, 30))
    sums = (chains[:, 1:] * chains[:, :-1]).sum(1)
    for level in (0.5, 0.1, 0.01):
        assert (products(sums, 29) < level).mean() <= level


def test_checks_share_one_level():
    chance = Check(name="a", claimed="", measured="", p_value=LEVEL)
    exact = Check.exact("b", "", "", holds=True)
    one, two, other = at_one_level([chance, chance, exact])
    assert one.passed
    assert one.p_value == two.p_value == 2 * LEVEL
    assert other == exact
    assert not at_one_level([Check.exact("c", "", "", holds=False)])[0].passed
