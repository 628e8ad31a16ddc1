"""Balanced draws: every class alike, every example of it alike, and a function of (seed, step)."""

import numpy as np
import torch
from scipy.stats import chisquare

from runner.training.gradients.batch_sampler import BalancedSampler, ShuffledSampler

# a rare class (1:50), and one number that no example has
LABELS = np.array(([0] * 50 + [2]) * 10)


def epochs(sampler, count):
    return torch.cat([sampler.rows(step) for step in range(count * sampler.steps_per_epoch)]).numpy()


def test_classes_and_their_examples_are_drawn_alike():
    drawn = epochs(BalancedSampler(LABELS, 64, seed=1), 20)
    assert len(drawn) == 20 * len(LABELS)
    assert chisquare(np.bincount(LABELS[drawn])[[0, 2]]).pvalue > 1e-3
    for label in (0, 2):
        rows = np.flatnonzero(label == LABELS)
        assert chisquare(np.bincount(drawn, minlength=len(LABELS))[rows]).pvalue > 1e-3
    # the control: shuffling keeps the classes as they are
    assert chisquare(np.bincount(LABELS[epochs(ShuffledSampler(len(LABELS), 64, 1), 20)])[[0, 2]]).pvalue < 1e-9


def test_a_batch_is_a_function_of_seed_and_step():
    one, other = BalancedSampler(LABELS, 64, seed=1), BalancedSampler(LABELS, 64, seed=1)
    last = one.steps_per_epoch - 1
    assert len(one.rows(last)) == len(LABELS) - 64 * last
    assert torch.equal(one.rows(11), other.rows(11))
    assert not torch.equal(BalancedSampler(LABELS, 64, seed=2).rows(11), other.rows(11))


def test_a_run_draws_so_and_is_another_than_without(plan_of, train):
    assert plan_of("data.sampler=balanced").identity != plan_of().identity
    train("data.limit=50", "model=linear", "trainer.steps=2", "data.sampler=balanced")
