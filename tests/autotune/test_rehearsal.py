"""What an update costs is measured on made-up images, and nothing of the run is touched."""

import dataclasses

import pytest
import torch

from runner.autotune.rehearsal import rehearsed_alone
from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device

RECIPE = ("tracker=none", "hardware=cpu", "hardware.threads=1", "data=digits", "data.limit=200", "model=mlp")


@pytest.fixture
def plan(configure):
    def plan(*overrides):
        config = configure(*RECIPE, *overrides)
        return build_plan(config, open_data(config.data), detect_device(config.hardware), processes=1)

    return plan


@pytest.mark.parametrize(
    "overrides",
    [(), ("trainer.accumulation_steps=5", "data.batch_size=8"), ("trainer=dp", "data.augment.crop_padding=1")],
    ids=["plain", "accumulated", "dp"],
)
def test_steps_are_measured_and_nothing_is_left(plan, overrides, tmp_path):
    asked = plan(*overrides)
    random, threads, before = torch.get_rng_state(), torch.get_num_threads(), sorted(tmp_path.rglob("ledger*"))
    with rehearsed_alone(asked) as rehearsal:
        assert min(rehearsal.update() for _ in range(2)) > 0
        assert rehearsal.set_up_seconds > 0
        assert rehearsal.fits
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads
    assert sorted(tmp_path.rglob("ledger*")) == before


def test_the_weights_stay_and_the_shape_is_the_plans(plan):
    asked = plan("data.batch_size=16", "optimizer.lr=10")
    with rehearsed_alone(asked) as rehearsal:
        before = [parameter.clone() for parameter in rehearsal.parts.parameters]
        for _ in range(3):
            rehearsal.update()
        for parameter, old in zip(rehearsal.parts.parameters, before, strict=True):
            torch.testing.assert_close(parameter, old, rtol=0, atol=1e-6)
        assert rehearsal.parts.sampler.rows(0).shape == (16,)
    semantic = dataclasses.replace(
        rehearsal.plan.semantic, data=asked.semantic.data, optimizer=asked.semantic.optimizer
    )
    assert dataclasses.replace(rehearsal.plan, semantic=semantic).identity == asked.identity
