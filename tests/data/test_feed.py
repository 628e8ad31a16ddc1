import numpy as np
import pytest
import torch

from runner.config.schema import AugmentConfig, DataConfig
from runner.data import feed
from runner.data.augment import draw
from runner.data.feed import Feed
from runner.data.open import open_data

CPU = torch.device("cpu")
AUGMENTS = {
    "none": None,
    "moves": AugmentConfig(crop_padding=2, flip=True),
    "boxes": AugmentConfig(random_resized_crop=True),
    "all": AugmentConfig(crop_padding=2, flip=True, random_resized_crop=True, color_jitter=0.3, hue=0.1),
}


def synthetic(channels=3, size=12, count=200):
    return open_data(
        DataConfig(
            target="runner.data.synthetic.make_synthetic",
            image_size=size,
            channels=channels,
            mean=[0.4, 0.5, 0.6][:channels],
            std=[0.2, 0.3, 0.25][:channels],
            options={"num_train": count, "num_test": 40},
        )
    )


def make(data, part="train", *, dtype=torch.float32, channels_last=False, augment=None):
    return Feed(getattr(data, part), data, device=CPU, dtype=dtype, channels_last=channels_last, augment=augment)


def by_hand(data, images, rows):
    pixels = images.images[images.rows[rows]].astype(np.float64)
    return ((pixels / 255 - data.mean) / data.std).transpose(0, 3, 1, 2)


@pytest.fixture(params=["ready", "gathered"])
def way(request, monkeypatch):
    if request.param == "gathered":
        monkeypatch.setattr(feed, "READY_BYTES", 0)
        monkeypatch.setattr(feed, "CHANGED_BYTES", 5 * 4 * 3 * 11**2)  # five images at a time
    return request.param


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-14), (torch.float32, 2e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_batches_are_the_normalised_images_and_their_labels(way, channels, channels_last, dtype, tolerance):
    data = synthetic(channels)
    for part in ("train", "val", "test"):
        images = getattr(data, part)
        rows = torch.tensor([5, 0, 5, len(images) - 1])
        x, y = make(data, part, dtype=dtype, channels_last=channels_last).batch(rows, None)
        assert x.dtype == dtype
        assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        assert np.abs(x.double().numpy() - by_hand(data, images, rows.numpy())).max() <= tolerance
        assert y.tolist() == images.labels[rows.numpy()].tolist()
        assert y.dtype == torch.int64


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", AUGMENTS)
def test_micro_batches_hold_the_bits_of_the_whole_batch(way, name, dtype, channels_last):
    # An odd size and odd parts, so that vector loops end in different places.
    data, augment = synthetic(size=11), AUGMENTS[name]
    source = make(data, dtype=dtype, channels_last=channels_last, augment=augment)
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:33]
    draws = draw(augment, 0, 0, 33) if augment else None
    whole, labels = source.batch(rows, draws)
    at = 0
    for size in (1, 0, 7, 2, 16, 7):
        part = slice(at, at + size)
        x, y = source.batch(rows[part], None if draws is None else draws[part])
        assert torch.equal(x, whole[part])
        assert torch.equal(y, labels[part])
        at += size


def test_normalisation_rounds_the_product_and_the_sum(way):
    data, rows = synthetic(), np.arange(30)
    scale = (1 / (255 * np.array(data.std))).astype(np.float32)
    shift = (-np.array(data.mean) / data.std).astype(np.float32)
    expected = data.train.images[data.train.rows[rows]].astype(np.float32) * scale + shift
    x, _ = make(data, channels_last=True).batch(torch.from_numpy(rows), None)
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), expected)


def test_both_ways_give_the_same_bits(monkeypatch):
    data, rows = synthetic(), torch.arange(30)
    ready = make(data).batch(rows, None)[0]
    monkeypatch.setattr(feed, "READY_BYTES", 0)
    assert torch.equal(make(data).batch(rows, None)[0], ready)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_span_is_the_batch_of_its_rows(way, channels_last):
    one = make(synthetic(), channels_last=channels_last)
    for start, stop in ((0, 7), (3, 4), (5, 30)):
        (x, y), (wanted, labels) = one.span(start, stop), one.batch(torch.arange(start, stop), None)
        assert torch.equal(x, wanted)
        assert torch.equal(y, labels)
        assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("name", AUGMENTS)
def test_empty_batches(way, name):
    augment = AUGMENTS[name]
    x, y = make(synthetic(), augment=augment).batch(
        torch.empty(0, dtype=torch.int64), draw(augment, 0, 0, 0) if augment else None
    )
    assert x.shape == (0, 3, 12, 12)
    assert y.shape == (0,)


def test_augmentation_changes_batches_with_draws_and_no_others():
    data, rows = synthetic(), torch.arange(20)
    augment = AUGMENTS["moves"]
    plain = make(data).batch(rows, None)[0]
    source = make(data, augment=augment)
    assert torch.equal(source.batch(rows, None)[0], plain)
    assert not torch.equal(source.batch(rows, draw(augment, 0, 0, 20))[0], plain)
    assert torch.equal(make(data, augment=AugmentConfig()).batch(rows, None)[0], plain)


def test_the_padding_of_a_crop_is_black_before_normalisation():
    data = synthetic()
    augment = AugmentConfig(crop_padding=12)
    corner = torch.zeros(1, 10)  # a window that shows the padding alone, but for a corner
    x, _ = make(data, augment=augment).batch(torch.tensor([0]), corner)
    black = -np.array(data.mean) / data.std
    assert np.allclose(x[0, :, 0, 0], black, atol=1e-6)


def test_a_stored_margin_is_cut_off_without_draws():
    data = synthetic(size=12)
    larger = synthetic(size=16)
    narrowed = type(data)(**{**data.__dict__, "train": larger.train})
    x, _ = make(narrowed).batch(torch.tensor([3]), None)
    assert np.allclose(x, by_hand(larger, larger.train, [3])[:, :, 2:14, 2:14], atol=2e-6)


def test_batches_cannot_be_used_to_change_the_data():
    data, rows = synthetic(), torch.arange(5)
    source = make(data)
    before = source.batch(rows, None)[0].clone()
    source.batch(rows, None)[0].zero_()
    assert torch.equal(source.batch(rows, None)[0], before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("name", AUGMENTS)
def test_a_gpu_gets_the_batches_of_the_cpu(monkeypatch, name, resident):
    monkeypatch.setattr(feed, "READY_BYTES", 0)
    monkeypatch.setattr(feed, "RESIDENT_SHARE", 0.25 if resident else 0.0)
    data, augment, rows = synthetic(), AUGMENTS[name], torch.arange(50)
    draws = draw(augment, 0, 0, 50) if augment else None
    device = torch.device("cuda")
    x, y = Feed(data.train, data, device=device, dtype=torch.float32, channels_last=True, augment=augment).batch(
        rows, draws
    )
    expected, labels = make(data, augment=augment).batch(rows, draws)
    assert x.device.type == "cuda"
    assert torch.allclose(x.cpu(), expected, atol=1e-3)
    assert torch.equal(y.cpu(), labels)
