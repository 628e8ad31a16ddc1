"""Runs with a weighted focal loss: splitting the work changes nothing, and DP clips them."""

import json

import pytest
import torch

from runner.training.checkpointing.checkpoint import load_checkpoint

# 203 training images and a logical batch of 24: the last of each epoch is shorter
RECIPE = ("data.limit=203", "model=mlp", "precision=fp64", "trainer.epochs=1", "task.loss=focal",
          "task.class_weights=balanced")  # fmt: skip


def weights(run_dir):
    return load_checkpoint(run_dir / "checkpoints" / "last").weights


def difference(one, other):
    return max(((one[k] - other[k]).norm() / other[k].norm().clamp(min=1e-30)).item() for k in one)


@pytest.fixture
def whole(train):
    return weights(train(*RECIPE, "data.batch_size=24"))


def test_accumulation_and_processes_only_split_the_work(train, whole):
    split = weights(train(*RECIPE, "data.batch_size=8", "trainer.accumulation_steps=3"))
    assert difference(split, whole) <= 1e-12
    two = ("trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=12")
    assert difference(weights(train(*RECIPE, *two)), whole) <= 1e-12


def test_weighting_and_focus_change_what_is_learned(train, whole):
    """The control: the tolerance above would see either of them missing."""
    for key in ("task.loss=cross_entropy", "task.class_weights=[1,1,1,1,1,1,1,1,1,9]"):
        assert difference(weights(train(*RECIPE, "data.batch_size=24", key)), whole) > 1e-4


def test_under_dp_public_weights_are_clipped_with_the_gradient(train):
    recipe = ("data.limit=100", "model=linear", "trainer=dp", "trainer.steps=2", "data.batch_size=16",
              "privacy.noise_multiplier=1", "privacy.unsafe_noise_seed=0", "privacy.grad_sample=functional",
              "precision=fp64", "task.loss=focal")  # fmt: skip
    plain = train(*recipe)
    heavy = train(*recipe, f"task.class_weights={[1000] * 10}")
    spent = [json.loads((run / "run.json").read_text())["privacy"]["noise_multiplier"] for run in (plain, heavy)]
    assert spent == [1, 1]
    # all gradients are longer than C either way, so a factor common to all classes changes none of them
    assert all(torch.isfinite(value).all() for value in weights(heavy).values())
    assert difference(weights(train(*recipe, f"task.class_weights={[2000] * 10}")), weights(heavy)) < 1e-12
