"""Several augmented images of one example: their mean gradient is clipped, whatever the way and the split."""

import contextlib
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.errors import RequestError
from runner.privacy.example_gradients.grad_sample import GRAD_SAMPLES
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource
from runner.privacy.mechanism.private_rule import PrivateRule
from runner.training.checkpointing.checkpoint import load_checkpoint

COPIES, EXAMPLES, CLIP = 3, 6, 2.0


class OneProcess:
    def sum_(self, tensor, flags=()):
        return list(flags)


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def make():
    torch.manual_seed(0)
    # under ghost: rows and norms of convolutions, with groups and without; "same" has no rule
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding="same"), nn.MaxPool2d(4), nn.Conv2d(4, 64, 2, groups=2),
        nn.Conv2d(64, 64, 1), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 5),
    ).double()  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(EXAMPLES, COPIES, 1, 8, 8, generator=generator, dtype=torch.float64)
    images *= torch.logspace(-1, 1, EXAMPLES, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    return model, images, torch.arange(EXAMPLES) % 5


def rule_of(model, mode, **changes):
    return PrivateRule(
        model,
        world=OneProcess(),
        loss=loss,
        forward=contextlib.nullcontext,
        noise=NoiseSource(SecretKey.from_unsafe_seed(0), secure=True),
        max_grad_norm=CLIP,
        noise_multiplier=0.0,
        expected_batch=10.0,
        grad_sample=mode,
        copies=COPIES,
        **changes,
    )


def released(rule, model, images, labels, size=EXAMPLES):
    rule.begin(10.0)
    sums = [
        rule.add(part.flatten(0, 1), targets)
        for part, targets in zip(images.split(size), labels.split(size), strict=True)
    ]
    rule.release(0)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    return gradient, sum(total for total, _ in sums), torch.cat([hits for _, hits in sums])


def by_hand(model, images, labels, *, mean_first=True):
    """Sum over the examples of the clipped mean of the copies' gradients, or of the mean of clipped gradients."""
    parameters = list(model.parameters())
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for copies, label in zip(images, labels, strict=True):
        rows = []
        for image in copies:
            found = torch.autograd.grad(loss(model(image.unsqueeze(0)), label.unsqueeze(0)).sum(), parameters)
            rows.append(torch.cat([g.flatten() for g in found]))
        if mean_first:
            rows = [sum(rows) / len(rows)]
        clipped = [row * min(1.0, CLIP / float(row.norm())) for row in rows]
        total += sum(clipped) / len(clipped)
    return total


@pytest.mark.parametrize("mode", GRAD_SAMPLES)
@pytest.mark.parametrize("size", [6, 4, 1])
@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_the_mean_gradient_of_the_copies_is_clipped(mode, size, scale):
    model, images, labels = make()
    expected = by_hand(model, images, labels)
    rule = rule_of(model, mode, static_scale=scale)
    found, total, hits = released(rule, model, images, labels, size)
    torch.testing.assert_close(found, expected / 10, rtol=1e-10, atol=1e-12)
    # the control: clipping each copy by itself is another mechanism
    assert (by_hand(model, images, labels, mean_first=False) - expected).norm() > 1e-3 * expected.norm()
    logits = model(images.flatten(0, 1)).detach()
    mean = loss(logits, labels.repeat_interleave(COPIES)).view(EXAMPLES, COPIES).mean(1).sum()
    torch.testing.assert_close(total, mean.float())
    assert torch.equal(hits, logits.view(EXAMPLES, COPIES, 5).mean(1).argmax(1) == labels)


@pytest.mark.parametrize("mode", GRAD_SAMPLES)
def test_one_broken_copy_removes_its_example_and_no_other(mode):
    model, images, labels = make()
    images[2, 1, 0, 3, 3] = float("nan")
    keep = torch.tensor([0, 1, 3, 4, 5])
    expected = by_hand(model, images[keep], labels[keep])
    rule = rule_of(model, mode)
    found, _, _ = released(rule, model, images, labels)
    torch.testing.assert_close(found, expected / 10, rtol=1e-10, atol=1e-12)
    assert int(rule.zeroed) == 1


RECIPE = ("trainer=dp", "model=mlp", "precision=fp64", "data.limit=60", "data.batch_size=12", "trainer.steps=3",
          "privacy.unsafe_noise_seed=1", "data.augment.crop_padding=2", "privacy.augmentation_multiplicity=3",
          "privacy.grad_sample=functional", "hardware.threads=1")  # fmt: skip


def weights(run_dir):
    return load_checkpoint(run_dir / "checkpoints" / "last").weights


def test_copies_do_not_depend_on_ways_micro_batches_or_processes(train):
    whole = weights(train(*RECIPE))
    ghost = (*RECIPE, "privacy.grad_sample=ghost")
    split = weights(train(*ghost, "data.batch_size=4", "trainer.accumulation_steps=3"))
    hooks = weights(train(*RECIPE, "privacy.grad_sample=hooks"))
    two = weights(train(*ghost, "data.batch_size=6", "hardware=cpu", "hardware.processes=2"))
    for other in (split, hooks, two):
        torch.testing.assert_close(other, whole, rtol=1e-10, atol=1e-12)
    # the control: fewer copies are another run
    fewer = weights(train(*RECIPE, "privacy.augmentation_multiplicity=2"))
    assert any((fewer[name] - whole[name]).norm() > 1e-6 for name in whole)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_takes_copies_and_the_fastest_way_is_measured_with_them(train, precision):
    run_dir = train(
        *RECIPE, f"precision={precision}", "model=small_cnn", "data.batch_size=4", "privacy.grad_sample=auto"
    )
    run = json.loads((run_dir / "run.json").read_text())
    assert run["status"] == "completed"
    assert run["plan"]["semantic"]["privacy"]["augmentation_multiplicity"] == 3
    assert run["plan"]["performance"]["grad_sample_reason"].endswith("ms for 12 random images")


def test_equal_copies_are_refused_with_a_cure(configure):
    with pytest.raises(RequestError) as error:
        configure("trainer=dp", "privacy.augmentation_multiplicity=4")
    assert error.value.key == "privacy.augmentation_multiplicity"
    assert "data.augment.crop_padding=1" in str(error.value)
    configure("trainer=dp", "privacy.augmentation_multiplicity=4", "data.augment.flip=true")
    with pytest.raises(RequestError, match=r"without privacy"):
        configure("privacy.augmentation_multiplicity=4", "data.augment.flip=true")
