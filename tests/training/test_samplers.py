import torch

from runner.training.gradients.batch_sampler import ShuffledSampler, fold_in


def test_an_epoch_holds_every_example_once_and_its_last_batch_is_the_remainder():
    sampler = ShuffledSampler(examples=103, batch=20, seed=3)
    assert sampler.steps_per_epoch == 6
    for epoch in range(3):
        batches = [sampler.rows(epoch * 6 + step) for step in range(6)]
        assert [len(batch) for batch in batches] == [20] * 5 + [3]
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(103))


def test_a_batch_is_a_function_of_seed_and_step_alone():
    in_order = ShuffledSampler(50, 8, seed=1)
    expected = {step: in_order.rows(step) for step in range(21)}
    jumping = ShuffledSampler(50, 8, seed=1)
    for step in (20, 0, 13, 7, 6, 19):
        assert torch.equal(jumping.rows(step), expected[step])
    assert not torch.equal(ShuffledSampler(50, 8, seed=2).rows(0), expected[0])
    assert not torch.equal(expected[0], expected[7]), "epochs must differ in order"


def test_a_batch_larger_than_the_data_is_the_whole_epoch():
    sampler = ShuffledSampler(5, 8, seed=0)
    assert sampler.steps_per_epoch == 1
    assert len(sampler.rows(0)) == 5


def test_neighbouring_seeds_and_counters_give_unrelated_seeds():
    seeds = [
        fold_in(seed, *counters) for seed in range(40) for counters in ((0,), (1,), (0, 0), (1, 0), (0, 1), (7, 3))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # torch's CPU generator keeps the low 32 bits of a seed, so those must differ too, and about half of them
    flips = [bin((fold_in(0, step) ^ fold_in(0, step + 1)) & 0xFFFFFFFF).count("1") for step in range(400)]
    assert 15 < sum(flips) / len(flips) < 17
