import dataclasses

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from runner.config.schema import AugmentConfig
from runner.data import augment
from runner.data.augment import apply, draw

EVERYTHING = AugmentConfig(crop_padding=4, flip=True, random_resized_crop=True, color_jitter=0.4)


def images(count=12, channels=3, size=16, seed=0):
    return torch.randint(
        0, 256, (count, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


# Draws


def test_draws_are_uniform_and_a_function_of_seed_step_and_position():
    one = draw(EVERYTHING, 3, 5, 20)
    assert one.dtype == torch.float32
    assert one.shape == (20, augment.COLUMNS)
    assert torch.equal(one, draw(EVERYTHING, 3, 5, 20))
    assert torch.equal(one[:10], draw(EVERYTHING, 3, 5, 10))
    assert not torch.equal(one, draw(EVERYTHING, 3, 6, 20))
    assert not torch.equal(one, draw(EVERYTHING, 4, 5, 20))
    assert draw(EVERYTHING, -1, 5, 0).shape == (0, augment.COLUMNS)
    assert not torch.equal(draw(EVERYTHING, 2**63, 5, 4), draw(EVERYTHING, 2**63 + 1, 5, 4))
    many = draw(EVERYTHING, 0, 0, 20_000)
    assert many.min() >= 0
    assert many.max() < 1
    assert torch.allclose(many.mean(0), torch.full((augment.COLUMNS,), 0.5), atol=0.01)
    assert torch.allclose(many.T.corrcoef(), torch.eye(augment.COLUMNS), atol=0.03)


def test_the_numbers_are_pinned_because_resumed_runs_must_meet_them_again():
    got = draw(EVERYTHING, 1, 2, 1)[0, :3]
    assert got.tolist() == pytest.approx(PINNED, abs=1e-7)


PINNED = [0.4915943, 0.094509, 0.1876341]


def test_nothing_is_drawn_where_nothing_is_on():
    assert draw(AugmentConfig(), 0, 0, 4) is None


def test_one_change_leaves_the_draws_of_another_alone():
    assert torch.equal(draw(AugmentConfig(flip=True), 0, 0, 4), draw(EVERYTHING, 0, 0, 4))


# Against torchvision, one image at a time


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_crop_and_flip_are_torchvisions_to_the_bit(channels, memory):
    config = AugmentConfig(crop_padding=4, flip=True)
    batch, draws = images(40, channels), draw(config, 0, 0, 40)
    got = apply(config, batch.contiguous(memory_format=memory), draws, image_size=16)
    assert got.dtype == torch.uint8
    flips = 0
    for image, u, one in zip(batch, draws, got, strict=True):
        top, left = int(u[augment.CROP_TOP] * 9), int(u[augment.CROP_LEFT] * 9)
        expected = reference.crop(reference.pad(image, [4]), top, left, 16, 16)
        if u[augment.FLIP] < 0.5:
            expected, flips = reference.hflip(expected), flips + 1
        assert torch.equal(one, expected)
    assert 8 < flips < 32


def test_every_crop_position_is_reached_equally_often():
    config = AugmentConfig(crop_padding=1)
    marked = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    marked[:, :, 1, 1] = 1
    cropped = apply(config, marked, draw(config, 0, 0, 9000), image_size=3)
    assert (cropped.sum(dim=(1, 2, 3)) == 1).all()
    assert torch.allclose(cropped.float().mean(dim=(0, 1)), torch.full((3, 3), 1 / 9), atol=0.012)


@pytest.mark.parametrize(("stored", "size"), [(32, 28), (16, 16), (28, 32)])
def test_resized_boxes_are_torchvisions(stored, size):
    config = AugmentConfig(random_resized_crop=True)
    batch, draws = images(30, size=stored), draw(config, 0, 0, 30)
    got = apply(config, batch, draws, image_size=size)
    boxes = augment._boxes(draws, stored, stored, *config.crop_area)
    for image, box, one in zip(batch, boxes.int().tolist(), got, strict=True):
        expected = reference.resized_crop(
            image.float(), *box, [size, size], InterpolationMode.BILINEAR, antialias=False
        )
        assert (one - expected).abs().max() < 0.05


def test_boxes_stay_inside_and_keep_the_promised_area_and_aspect():
    config = AugmentConfig(random_resized_crop=True, crop_area=[0.3, 0.6])
    top, left, tall, wide = augment._boxes(draw(config, 0, 0, 5000), 100, 100, 0.3, 0.6).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= 100).all()
    assert (left + wide <= 100).all()
    area, aspect = tall * wide / 1e4, wide / tall
    assert area.min() > 0.29
    assert area.max() < 0.61
    assert area.mean() == pytest.approx(0.45, abs=0.01)
    assert aspect.min() > 0.73
    assert aspect.max() < 1.36
    assert aspect.log().mean() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions(channels):
    config = AugmentConfig(color_jitter=0.4)
    batch, draws = images(20, channels), draw(config, 0, 0, 20)
    got = apply(config, batch, draws, image_size=16)
    for image, u, one in zip(batch, draws, got, strict=True):
        factors = (0.6 + 0.8 * u[augment.BRIGHTNESS :]).tolist()
        expected = reference.adjust_brightness(image.float() / 255, factors[0])
        expected = reference.adjust_contrast(expected, factors[1])
        expected = reference.adjust_saturation(expected, factors[2])
        assert (one / 255 - expected).abs().max() < 1e-5
    assert (got.float() - batch).abs().max() > 10


def test_a_mirrored_box_is_the_box_mirrored_to_the_bit():
    config = AugmentConfig(random_resized_crop=True)
    batch, draws = images(20), draw(config, 0, 0, 20)
    plain = apply(config, batch, draws, image_size=16)
    got = apply(dataclasses.replace(config, flip=True), batch, draws, image_size=16)
    mirrored = draws[:, augment.FLIP] < 0.5
    assert 0 < mirrored.sum() < 20
    assert torch.equal(got, torch.where(mirrored[:, None, None, None], plain.flip(3), plain))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_hue_is_torchvisions(dtype):
    config = AugmentConfig(hue=0.3)
    batch, draws = images(20), draw(config, 0, 0, 20)
    batch[3] = 77  # grey has no hue
    batch[4, 1] = batch[4, 0]  # two channels that tie
    got = apply(config, batch.to(dtype), draws, image_size=16)
    turns = []
    for image, u, one in zip(batch, draws, got, strict=True):
        turns.append(0.3 * (2 * u[augment.HUE].item() - 1))
        expected = reference.adjust_hue(image.double() / 255, turns[-1])
        assert (one.double() / 255 - expected).abs().max() < 1e-5
    assert min(turns) < -0.1
    assert max(turns) > 0.1
    grey = images(4, channels=1)
    assert torch.equal(apply(config, grey, draws[:4], image_size=16), grey)


def test_hue_leaves_the_other_draws_alone_and_goes_its_own_way():
    got = draw(AugmentConfig(hue=0.1), 0, 0, 20_000)
    assert torch.equal(got[:, : augment.COLUMNS], draw(EVERYTHING, 0, 0, 20_000))
    assert torch.allclose(got.T.corrcoef(), torch.eye(augment.COLUMNS + 1), atol=0.03)
    assert 0 <= got[:, augment.HUE].min() < 0.001 < 0.999 < got[:, augment.HUE].max() < 1


def test_jitter_stronger_than_one_never_turns_colours_round():
    config = AugmentConfig(color_jitter=2.0)
    got = apply(config, images(20), draw(config, 0, 0, 20), image_size=16)
    assert got.min() >= 0
    assert got.max() <= 255


# Batches


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_all_together_split_anyhow_to_the_bit(dtype):
    batch, draws = images(13, size=20).to(dtype), draw(EVERYTHING, 7, 3, 13)
    whole = apply(EVERYTHING, batch, draws, image_size=16)
    assert whole.shape == (13, 3, 16, 16)
    assert whole.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    parts = [apply(EVERYTHING, batch[i:j], draws[i:j], image_size=16) for i, j in ((0, 1), (1, 1), (1, 8), (8, 13))]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("name", ["crop_padding", "flip", "random_resized_crop", "color_jitter", "hue"])
def test_empty_batches_and_untouched_inputs(name):
    config = AugmentConfig(**{name: 1})
    assert apply(config, images(0), draw(config, 0, 0, 0), image_size=16).shape == (0, 3, 16, 16)
    batch = images().contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    apply(config, batch, draw(config, 0, 0, 12), image_size=16)
    assert torch.equal(batch, before)
