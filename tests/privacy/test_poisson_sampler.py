from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from runner.errors import RequestError
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.poisson_sampler import PoissonSampler

KEY = SecretKey.from_unsafe_seed(0)


def membership(sampler, steps):
    table = np.zeros((steps, sampler.n), bool)
    for step in range(steps):
        table[step, sampler.rows(step).numpy()] = True
    return table


def test_rows_are_distinct_ascending_int64_positions():
    rows = PoissonSampler(1000, 0.3, KEY).rows(5)
    assert rows.dtype == torch.int64
    assert rows.device.type == "cpu"
    assert rows[0] >= 0
    assert rows[-1] < 1000
    assert bool((rows[1:] > rows[:-1]).all())


def test_a_step_repeats_and_steps_keys_differ():
    sampler = PoissonSampler(1000, 0.3, KEY)
    assert torch.equal(sampler.rows(7), PoissonSampler(1000, 0.3, KEY).rows(7))
    assert not torch.equal(sampler.rows(7), sampler.rows(8))
    assert not torch.equal(sampler.rows(7), PoissonSampler(1000, 0.3, SecretKey.from_unsafe_seed(1)).rows(7))


@pytest.mark.parametrize("rate", [0.02, 0.37, 0.9])
def test_batch_sizes_are_binomial(rate):
    n, steps = 2000, 2000
    sampler = PoissonSampler(n, rate, KEY)
    sizes = np.array([len(sampler.rows(step)) for step in range(steps)])
    spread = np.sqrt(n * rate * (1 - rate))
    assert abs(sizes.mean() - n * rate) < 4 * spread / np.sqrt(steps)
    # the variance of a variance: 2 sigma^4 / steps
    assert abs(sizes.var() / spread**2 - 1) < 4 * np.sqrt(2 / steps)


def test_examples_are_independent_of_each_other_and_over_steps():
    table = membership(PoissonSampler(40, 0.3, KEY), 4000)
    p_values = []
    for first in range(0, 40, 4):
        for second in range(first + 1, 40, 5):
            counts = np.histogram2d(table[:, first], table[:, second], bins=2)[0]
            p_values.append(stats.chi2_contingency(counts, correction=False).pvalue)
        counts = np.histogram2d(table[:-1, first], table[1:, first], bins=2)[0]
        p_values.append(stats.chi2_contingency(counts, correction=False).pvalue)
    # under independence the p values are uniform
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert min(p_values) > 1e-3 / len(p_values)


def test_every_example_has_the_same_rate():
    table = membership(PoissonSampler(500, 0.05, KEY), 4000)
    expected = 4000 * 0.05
    statistic = ((table.sum(0) - expected) ** 2 / (expected * 0.95)).sum()
    assert 1e-3 < stats.chi2(500).cdf(statistic) < 1 - 1e-3


def test_the_rate_is_exact_where_the_first_bits_tie():
    # 16 bits alone can only give multiples of 2^-16: this rate is decided by the 64 bits behind a tie.
    rate = 2.0**-17
    sampler = PoissonSampler(1 << 20, rate, KEY)
    expected = 300 * (1 << 20) * rate
    total = sum(len(sampler.rows(step)) for step in range(300))
    assert abs(total - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("rate", [0.1, 64 / 1437, 1 / 3, 2.0**-20, 1 - 2.0**-53])
def test_the_threshold_is_the_float64_rate(rate):
    sampler = PoissonSampler(10, rate, KEY)
    assert Fraction(sampler._coarse * 2**64 + sampler._fine, 2**80) == Fraction(rate)


def test_a_rate_of_one_takes_everyone_and_a_tiny_rate_can_take_nobody():
    assert torch.equal(PoissonSampler(5, 1.0, KEY).rows(0), torch.arange(5))
    empty = [PoissonSampler(5, 0.01, KEY).rows(step) for step in range(5)]
    assert any(len(rows) == 0 and rows.dtype == torch.int64 for rows in empty)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(RequestError, match=r"data\.batch_size"):
        PoissonSampler(10, rate, KEY)
