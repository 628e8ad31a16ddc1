"""RandAugment and TrivialAugment: the pixels of torchvision's for the same operation and strength, in batches."""

import itertools

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from runner.config.augment_config import AugmentConfig
from runner.data import augment, policies
from runner.data.augment import apply, draw

POLICIES = {"rand": (policies.RAND, v2.RandAugment()), "trivial": (policies.TRIVIAL, v2.TrivialAugmentWide())}
BLENDED = ("Color", "Contrast", "Sharpness")


def images(count, channels=3, size=15, seed=0):
    """Smooth, dark, bright and flat ones among noise, so that every operation has something to do."""
    numbers = torch.Generator().manual_seed(seed)
    batch = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=numbers)
    batch[1::4] = batch[1::4] // 5 + 90
    batch[2::4] = torch.arange(size * size).view(size, size).mul(255).div(size * size).to(torch.uint8)
    batch[3::8] = 77
    return batch


def cases(operations, theirs, size):
    """Number of the operation, its name, number of the strength, sign, and the strength by torchvision's list."""
    for index, (name, (strengths, signed)) in enumerate(theirs._AUGMENTATION_SPACE.items()):
        found = strengths(policies.BINS, size, size)
        for number, negative in itertools.product((0, 4, 9, 17, 30), (False, True) if signed else (False,)):
            strength = 0.0 if found is None else float(found[number])
            yield index, name, number, negative, -strength if negative else strength


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", list(POLICIES))
def test_every_operation_is_torchvisions(policy, channels):
    operations, theirs = POLICIES[policy]
    assert len(operations) == len(theirs._AUGMENTATION_SPACE)
    every = list(cases(operations, theirs, 15))
    batch = images(len(every), channels)
    draws = torch.tensor(
        [
            [(i + 0.5) / len(operations), 0.25 if negative else 0.75, (n + 0.5) / policies.BINS]
            for i, _, n, negative, _ in every
        ]
    )
    got = policies.apply_operation(batch, operations, draws, fixed=None)
    for image, one, (_, name, _, _, strength) in zip(batch, got, every, strict=True):
        expected = theirs._apply_image_or_video_transform(image, name, strength, interpolation="nearest", fill={})
        # A blend is a product and a sum; torchvision's may be one fused operation, and both cut off what is behind the
        # point: where the exact value is a whole level, rounding decides between it and the one below.
        most = 1 if name in BLENDED else 0
        difference = (one.int() - expected.int()).abs()
        assert difference.max() <= most, name
        assert difference.float().mean() < 0.2, name
    assert (got != batch).flatten(1).any(1).float().mean() > 0.5


def test_strengths_are_drawn_or_fixed_and_signs_are_fair():
    draws = draw(AugmentConfig(rand_augment=5), 0, 0, 4000)[:, augment.OPERATIONS :]
    seen = []

    def change(batch, strengths):
        seen.append(strengths)
        return batch

    operation = policies.Operation(change, lambda _: torch.arange(31), signed=True)
    policies.apply_operation(images(4000, size=3), (operation,), draws, fixed=None)
    policies.apply_operation(images(4000, size=3), (operation,), draws, fixed=7)
    drawn, fixed = seen
    assert torch.bincount(drawn.abs().long(), minlength=31).min() > 80
    assert set(fixed.tolist()) == {-7.0, 7.0}
    assert 0.45 < (fixed < 0).double().mean() < 0.55


@pytest.mark.parametrize("name", [{"rand_augment": 2}, {"rand_augment": 5}, {"trivial_augment": True}])
def test_a_policy_in_the_whole_chain_is_made_of_whole_levels_and_splits_to_the_bit(name):
    config = AugmentConfig(random_resized_crop=True, flip=True, **name)
    batch, draws = images(40, size=20), draw(config, 1, 2, 40)
    whole = apply(config, batch, draws, image_size=16)
    assert whole.dtype == torch.uint8
    assert whole.is_contiguous(memory_format=torch.channels_last)
    parts = [apply(config, batch[i:j], draws[i:j], image_size=16) for i, j in ((0, 1), (1, 1), (1, 18), (18, 40))]
    assert torch.equal(torch.cat(parts), whole)
    plain = (
        apply(AugmentConfig(random_resized_crop=True, flip=True), batch, draws, image_size=16).round().to(torch.uint8)
    )
    assert (whole != plain).flatten(1).any(1).float().mean() > 0.5


def test_bands_other_than_colours_pass():
    config = AugmentConfig(trivial_augment=True)
    batch = images(60, channels=5)
    assert apply(config, batch, draw(config, 0, 0, 60), image_size=15).shape == batch.shape


# Rotation and erasing, with the draws of the chain


@pytest.mark.parametrize("channels", [1, 3])
def test_rotation_is_torchvisions(channels):
    config = AugmentConfig(rotation=40)
    batch, draws = images(20, channels), draw(config, 0, 0, 20)
    got = apply(config, batch, draws, image_size=15)
    angles = []
    for image, u, one in zip(batch, draws, got, strict=True):
        angles.append(40 * (2 * u[augment.ROTATION].item() - 1))
        expected = reference.rotate(image.float(), angles[-1], v2.InterpolationMode.BILINEAR)
        # Places have a few roundings of numbers up to the size, 2^-24 each, and a pixel's width is 255 levels at most.
        assert (one - expected).abs().max() < 2 * 255 * 16 * 15 * 2**-24
    assert min(angles) < -20
    assert max(angles) > 20


def test_erasing_is_torchvisions_and_keeps_its_promises():
    config = AugmentConfig(erasing=0.6, erasing_area=[0.1, 0.3])
    batch, draws = images(400, size=32) // 2 + 100, draw(config, 0, 0, 400)
    got = apply(config, batch, draws, image_size=32)
    black = (got == 0).all(1)
    erased = black.flatten(1).any(1)
    assert torch.equal(erased, draws[:, augment.ERASE] < 0.6)
    assert torch.equal(got[~erased], batch[~erased])
    for image, one, where in zip(batch[erased], got[erased], black[erased], strict=True):
        rows, columns = where.any(1).nonzero()[:, 0].tolist(), where.any(0).nonzero()[:, 0].tolist()
        box = (rows[0], columns[0], len(rows), len(columns))
        assert torch.equal(one, reference.erase(image, *box, v=torch.zeros(3, 1, 1, dtype=torch.uint8)))
        assert 0.08 < len(rows) * len(columns) / 32**2 < 0.32
        assert 0.25 < len(rows) / len(columns) < 4


@pytest.mark.parametrize("name", ["rotation", "erasing", "rand_augment", "trivial_augment"])
def test_later_changes_leave_the_draws_of_the_others_alone(name):
    old = AugmentConfig(crop_padding=2, flip=True, color_jitter=0.1, hue=0.1)
    got = draw(AugmentConfig(**{name: 1}), 3, 5, 2000)
    assert got.shape == (2000, sum(augment.blocks(AugmentConfig(**{name: 1}))))
    assert torch.equal(got[:, : augment.MOST_COLUMNS], draw(old, 3, 5, 2000))
    assert torch.allclose(got.T.corrcoef(), torch.eye(got.shape[1]), atol=0.1)
    assert torch.equal(got[:7], draw(AugmentConfig(**{name: 1}), 3, 5, 7))


@pytest.mark.parametrize("name", ["rotation", "erasing", "rand_augment", "trivial_augment"])
def test_empty_batches_and_untouched_inputs(name):
    config = AugmentConfig(**{name: 1})
    assert apply(config, images(0), draw(config, 0, 0, 0), image_size=15).shape == (0, 3, 15, 15)
    batch = images(12).contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    apply(config, batch, draw(config, 0, 0, 12), image_size=15)
    assert torch.equal(batch, before)
