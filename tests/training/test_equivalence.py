"""Every cell of a grid means the same: accumulation, processes and evaluation batches only split the work."""

import json

import pytest
import torch

from runner.training.checkpointing.checkpoint import load_checkpoint

# 203 training images and a logical batch of 24: eight whole batches and one of 11 an epoch
RECIPE = (
    "data.limit=203",
    "model=mlp",
    "precision=fp64",
    "trainer.epochs=2",
    "trainer.clip_norm=0.5",
    "optimizer.lr=0.1",
    "scheduler.warmup_epochs=0.5",
)


def weights(run_dir):
    return load_checkpoint(run_dir / "checkpoints" / "last").weights


def relative_difference(one, other):
    assert one.keys() == other.keys()
    return max(((one[k] - other[k]).norm() / other[k].norm().clamp(min=1e-30)).item() for k in one)


@pytest.fixture
def whole(train):
    return weights(train(*RECIPE, "data.batch_size=24"))


@pytest.mark.parametrize(("batch", "accumulation"), [(8, 3), (12, 2), (1, 24)])
def test_accumulation_only_splits_the_logical_batch(train, whole, batch, accumulation):
    split = weights(train(*RECIPE, f"data.batch_size={batch}", f"trainer.accumulation_steps={accumulation}"))
    assert relative_difference(split, whole) <= 1e-12


def test_two_processes_compute_what_one_does(train, whole):
    run_dir = train(*RECIPE, "trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=4",
                    "trainer.accumulation_steps=3")  # fmt: skip
    assert relative_difference(weights(run_dir), whole) <= 1e-12
    plan = json.loads((run_dir / "run.json").read_text())["plan"]
    assert plan["performance"]["processes"] == 2
    assert plan["semantic"]["logical_batch"] == 24


def test_two_processes_agree_on_weights_in_channels_last_memory_too(train):
    """Fused optimizers read gradients as plain memory; a gradient in another order than its weight trains nonsense."""
    recipe = ["data.limit=100", "model=small_cnn", "precision=fp64", "trainer.epochs=1", "optimizer.lr=0.05"]
    one = weights(train(*recipe, "data.batch_size=24"))
    two = weights(train(*recipe, "trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=12"))
    assert relative_difference(two, one) <= 1e-12


def test_a_process_without_an_example_takes_part(train):
    # one example is left for the last batch of an epoch, so the second process has none
    recipe = [*RECIPE, "data.limit=193"]
    one = weights(train(*recipe, "data.batch_size=24"))
    two = weights(train(*recipe, "trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=12"))
    assert relative_difference(two, one) <= 1e-12


def test_dividing_by_the_number_of_micro_batches_would_have_been_seen(train, monkeypatch):
    """The control: what most loops do, dividing a short window by the full one, is far outside the tolerance."""
    from runner.training.gradients.mean_rule import MeanRule

    # without clipping, which would hide that a gradient is too short
    recipe = [*RECIPE, "trainer.clip_norm=null"]
    right = weights(train(*recipe, "data.batch_size=24"))
    begin = MeanRule.begin
    monkeypatch.setattr(MeanRule, "begin", lambda self, denominator: begin(self, 24.0))
    wrong = weights(train(*recipe, "data.batch_size=8", "trainer.accumulation_steps=3"))
    assert relative_difference(wrong, right) > 1e-4


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(train):
    recipe = ("data.limit=100", "model=mlp", "trainer.epochs=2")
    first, second, other = (weights(train(*recipe, f"seed={seed}")) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_evaluation_does_not_depend_on_its_batches_or_processes(train):
    recipe = [*RECIPE, "trainer.epochs=1", "data.batch_size=24"]
    figures = []
    for extra in (["data.eval_batch_size=7"], ["data.eval_batch_size=512"],
                  ["trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=12"]):  # fmt: skip
        figures.append(json.loads((train(*recipe, *extra) / "run.json").read_text())["metrics"])
    for other in figures[1:]:
        assert other == pytest.approx(figures[0], rel=1e-10)


def test_mixed_and_changed_images_are_the_same_however_a_batch_is_split(train):
    """Partners come from the whole logical batch, also from the other process and from other micro-batches."""
    recipe = [*RECIPE, "data.augment.mixup=0.4", "data.augment.cutmix=1", "data.augment.rotation=10",
              "data.augment.rand_augment=1", "data.augment.erasing=0.3", "trainer.epochs=1"]  # fmt: skip
    whole = weights(train(*recipe, "data.batch_size=24"))
    split = weights(train(*recipe, "data.batch_size=8", "trainer.accumulation_steps=3"))
    assert relative_difference(split, whole) <= 1e-12
    two = weights(train(*recipe, "trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=12"))
    assert relative_difference(two, whole) <= 1e-12
    assert relative_difference(weights(train(*recipe, "data.batch_size=24", "data.augment.mixup=0")), whole) > 1e-4
