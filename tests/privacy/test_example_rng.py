"""Draws of private runs: a secret function of (key, step, row, copy), whatever else is in the batch."""

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from runner.privacy.mechanism.example_rng import ExampleRng
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.random_layers import LayerKeys, draw_by_example
from tests.audit.sensitivity_cells import parts_of

KEY = SecretKey.from_unsafe_seed(3)
ROWS = torch.tensor([0, 4, 5, 11, 300, 70_000])


def draws(*, key=KEY, copies=3):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    draw_by_example(model)
    return ExampleRng(key, model, copies=copies, blocks=(11,)), LayerKeys.of(model)


def images(rows, *, step=2, rank=0, size=1, **changes):
    return draws(**changes)[0].images(step, rows, rank=rank, size=size)


def layers(rows, *, step=2, **changes):
    made, keys = draws(**changes)
    made.layers(step, rows)
    return keys.current.view(len(rows), -1)


@pytest.mark.parametrize("of", [images, layers])
def test_an_example_keeps_its_draws_whoever_else_is_there(of):
    whole = of(ROWS)
    for place in range(len(ROWS)):
        rest = torch.cat([ROWS[:place], ROWS[place + 1 :]])
        assert torch.equal(of(rest), torch.cat([whole[:place], whole[place + 1 :]]))
    assert torch.equal(of(ROWS.flip(0)), whole.flip(0))


@pytest.mark.parametrize("of", [images, layers])
def test_draws_of_another_key_step_row_or_copy_are_others(of):
    whole = of(ROWS)
    others = [of(ROWS, key=SecretKey.from_system()), of(ROWS, step=3), of(ROWS + 1)]
    for other in others:
        assert not (other == whole).flatten(1).all(1).any()
    assert not torch.equal(whole[:, 0], whole[:, 1])
    # fewer copies are the first of more
    assert torch.equal(of(ROWS, copies=2), whole[:, :2])


def test_processes_deal_out_the_same_draws():
    whole = images(ROWS)
    for rank in range(4):
        assert torch.equal(images(ROWS, rank=rank, size=4), whole[rank::4])
    assert images(ROWS[:0]).shape == (0, 3, 11)


def test_a_run_draws_from_its_secret_key_and_not_from_its_seed():
    secret = SecretKey.from_system()
    _, parts = parts_of("data.augment.crop_padding=1", "model=linear", key=secret)
    expected = ExampleRng(secret, parts.model, copies=1, blocks=(11,)).images(0, ROWS, rank=0, size=1)
    assert torch.equal(parts.draws.images(0, ROWS, rank=0, size=1), expected)


def test_the_numbers_are_uniform_and_float32_never_rounds_them_up_to_one():
    found = images(torch.arange(2000), copies=1).double().view(-1)
    assert found.min() >= 0
    assert found.max() < 1
    assert kstest(found.numpy(), "uniform").pvalue > 1e-4


def test_a_further_block_has_numbers_of_its_own_and_leaves_the_first_as_it_is():
    model = nn.Linear(4, 4)
    longer = ExampleRng(KEY, model, copies=3, blocks=(11, 16)).images(2, ROWS, rank=0, size=1)
    assert longer.shape == (len(ROWS), 3, 27)
    assert torch.equal(longer[..., :11], images(ROWS))
    later = longer[..., 11:]
    assert len(later.flatten().unique()) == later.numel()
    assert not torch.isin(later, longer[..., :11]).any()


def test_a_private_run_has_the_numbers_that_its_changes_take():
    secret = SecretKey.from_system()
    changes = ("data.augment.rotation=10", "data.augment.rand_augment=2", "privacy.augmentation_multiplicity=2")
    _, parts = parts_of(*changes, "model=linear", key=secret)
    found = parts.draws.images(0, ROWS, rank=0, size=1)
    assert found.shape == (len(ROWS), 2, 27)
    made, _ = parts.feed.batch(ROWS[:2], found[:2].flatten(0, 1), copies=2)
    assert not torch.equal(made[0], made[1])
