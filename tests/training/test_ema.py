"""Averaged weights: the recurrence, what is evaluated and saved, and that training itself does not notice."""

import json

import pytest
import torch
from torch import nn

from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.ema import WeightAverage

RECIPE = ("data.limit=120", "data.batch_size=16", "model=mlp", "trainer.epochs=3", "hardware.threads=1")


def checkpoint(run_dir, name="last"):
    return load_checkpoint(run_dir / "checkpoints" / name)


def run_json(run_dir):
    return json.loads((run_dir / "run.json").read_text())


def test_the_recurrence_and_its_start():
    layer = nn.Linear(3, 2).double()
    average = WeightAverage(list(layer.parameters()), 0.9)
    expected = [p.detach().clone() for p in layer.parameters()]
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, layer.parameters(), strict=True)]
    torch.testing.assert_close(average.tensors(), expected, rtol=1e-12, atol=1e-14)


def test_inside_the_context_the_average_and_outside_the_same_bits_as_before():
    layer = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    average = WeightAverage(list(layer.parameters()), 0.5)
    with torch.no_grad():
        layer.weight.mul_(3.0)
    average.update(0)
    raw, mean = layer.weight.detach().clone(), average.tensors()[0].clone()
    assert not torch.equal(raw, mean)
    with average.applied():
        assert torch.equal(layer.weight, mean)
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.weight, raw)
    assert torch.equal(average.tensors()[0], mean)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp64"])
def test_training_goes_on_from_the_raw_weights(train, precision):
    plain = checkpoint(train(*RECIPE, f"precision={precision}"))
    averaged = checkpoint(train(*RECIPE, f"precision={precision}", "trainer.ema_decay=0.9"))
    raw = averaged.state["raw_weights"]
    assert plain.state["raw_weights"] is None
    assert all(torch.equal(raw[name], plain.weights[name]) for name in plain.weights)
    assert not any(torch.equal(raw[name], averaged.weights[name]) for name in raw)


def test_what_was_tested_is_what_was_saved(train, configure):
    """The test accuracy belongs to the published weights, whether the best or the last ones were tested."""
    from runner.data.open import open_data
    from runner.models.build import build_network

    for choice in ("best", "last"):
        # so much decay that average and weights answer differently
        recipe = (*RECIPE, "trainer.ema_decay=0.99", "optimizer.lr=0.5", f"trainer.test_checkpoint={choice}")
        run_dir = train(*recipe)
        config = configure(*recipe)
        data = open_data(config.data)
        model = build_network(config.model, channels=1, num_classes=10, image_size=8, norm="batch").eval()
        pixels = torch.from_numpy(data.test.images[data.test.rows]).permute(0, 3, 1, 2) / 255
        images = (pixels - data.mean[0]) / data.std[0]
        labels = torch.from_numpy(data.test.labels)

        def accuracy(weights, model=model, images=images, labels=labels):
            model.load_state_dict(weights)
            with torch.no_grad():
                return (model(images).argmax(1) == labels).double().mean().item()

        saved = checkpoint(run_dir, choice)
        reported = run_json(run_dir)["metrics"]["test_accuracy"]
        assert accuracy(saved.weights) == pytest.approx(reported, abs=1e-9)
        assert accuracy(saved.weights | saved.state["raw_weights"]) != pytest.approx(reported, abs=1e-9)


def test_a_skipped_float16_step_moves_the_average_on_towards_the_same_weights(train):
    # a scale so large that every step overflows
    recipe = (*RECIPE[:3], *RECIPE[4:], "precision=fp16", "precision.init_scale=1e38", "trainer.steps=2",
              "trainer.ema_decay=0.9")  # fmt: skip
    run_dir = train(*recipe)
    assert run_json(run_dir)["skipped_steps"] == 2
    saved = checkpoint(run_dir)
    torch.testing.assert_close(saved.weights, saved.state["raw_weights"], rtol=1e-6, atol=1e-8)


def test_processes_average_alike(train):
    recipe = (*RECIPE, "trainer.epochs=1", "precision=fp64", "trainer.ema_decay=0.9")
    one = checkpoint(train(*recipe))
    two = checkpoint(train(*recipe, "trainer=accelerate", "hardware=cpu", "hardware.processes=2", "data.batch_size=8"))
    torch.testing.assert_close(two.weights, one.weights, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(two.state["raw_weights"], one.state["raw_weights"], rtol=1e-11, atol=1e-13)


def test_decay_has_a_range(configure):
    from runner.errors import RequestError

    with pytest.raises(RequestError, match=r"trainer\.ema_decay: got 1"):
        configure("trainer.ema_decay=1.0")
