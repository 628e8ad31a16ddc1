"""mixup and CutMix: torchvision's pixels and labels, and the same bits however a logical batch is split."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from runner.config.augment_config import AugmentConfig
from runner.data.augment import draw
from runner.data.mixing import Mixer, Mixture, with_partners
from runner.training.gradients.micro_batches import gathered, micro_batches

BOTH = AugmentConfig(mixup=0.4, cutmix=1.0)
SIZE, CLASSES = 12, 7


def mixer(config=BOTH, seed=1):
    return Mixer(config, seed=seed, image_size=SIZE, classes=CLASSES)


def batch(count, dtype=torch.float32, channels_last=True):
    numbers = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, SIZE, SIZE, generator=numbers, dtype=torch.float64).to(dtype)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    return images.contiguous(memory_format=memory), torch.randint(CLASSES, (count,), generator=numbers)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_each_pair_is_torchvisions(name, channels_last):
    theirs = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name](num_classes=CLASSES)
    ours = mixer(AugmentConfig(**{name: 0.8}))
    images, labels = batch(30, torch.float64, channels_last)
    mixture = ours.draw(4, 30)
    got, shares = ours.mix(images, labels, *with_partners(torch.arange(30), 30)[1:], mixture)
    assert got.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    for i in range(30):
        pair = [i, (i - 1) % 30]
        top, left, bottom, right = mixture.boxes[i].tolist()
        share = mixture.share[i].item()
        given = {"lam": share, "box": (left, top, right, bottom), "lam_adjusted": share, "batch_size": 2}
        picked = labels[pair]
        image = theirs.transform(images[pair], {**given, "labels": picked})[0]
        label = theirs.transform(picked, {**given, "labels": picked})[0]
        assert (got[i] - image).abs().max() < 1e-12
        assert (shares[i] - label).abs().max() < 1e-6  # theirs are float32
        if name == "cutmix":
            assert share == pytest.approx(1 - (bottom - top) * (right - left) / SIZE**2, abs=1e-12)
    assert (got != images).flatten(1).any(1).sum() > 20


def test_shares_follow_beta_and_both_take_half():
    mixture = mixer().draw(0, 20_000)
    by_box = mixture.boxes.any(1)
    blend = mixture.blend[mixture.blend < 1]
    assert 0.48 < len(blend) / 20_000 < 0.52
    assert not (by_box & (mixture.blend < 1)).any()
    # Beta(a, a) has the variance 1 / (4 (2 a + 1))
    assert blend.mean() == pytest.approx(0.5, abs=0.01)
    assert blend.var() == pytest.approx(1 / (4 * 1.8), abs=0.005)
    assert mixture.boxes.min() == 0
    assert mixture.boxes.max() == SIZE


def test_a_share_is_a_function_of_seed_step_and_position():
    one = mixer().draw(3, 20)
    assert all(torch.equal(a, b) for a, b in zip(one.of(torch.arange(9)), mixer().draw(3, 9), strict=True))
    for other in (mixer().draw(4, 20), mixer(seed=2).draw(3, 20)):
        assert not torch.equal(one.share, other.share)
    # One leaves the draws of the other alone.
    alone = mixer(AugmentConfig(mixup=0.4)).draw(3, 20)
    blended = one.blend < 1
    assert torch.equal(alone.blend[blended], one.blend[blended])


def test_the_numbers_are_pinned_because_resumed_runs_must_meet_them_again():
    assert mixer().draw(2, 3).share.tolist() == pytest.approx(PINNED, abs=1e-12)


PINNED = [0.8832525656007933, 8 / 9, 37 / 72]


def test_partners_are_neighbours_and_gathered_once():
    needed, place = with_partners(torch.arange(5), 5)
    assert needed.tolist() == [0, 1, 2, 3, 4]
    assert place.tolist() == [4, 0, 1, 2, 3]
    needed, place = with_partners(torch.tensor([2, 3]), 5)
    assert needed.tolist() == [2, 3, 1]
    assert place.tolist() == [2, 0]
    needed, place = with_partners(torch.tensor([0]), 1)
    assert needed.tolist() == [0]
    assert place.tolist() == [0]


class Draws:
    """Numbers of augmentation as those of a run, and no random layers."""

    def __init__(self, config):
        self._config = config

    def images(self, step, rows, *, rank, size):
        return draw(self._config, 1, step, rows.numel()).unsqueeze(1)[rank::size]

    def layers(self, step, rows):
        pass


def parts(config, micro, images, labels):
    """What ``micro_batches`` looks at; augmentation here adds the first draw to the pixels."""

    def gather(rows, draws):
        moved = images[rows] if draws is None else images[rows] + draws[:, 0].view(-1, 1, 1, 1)
        return moved.contiguous(memory_format=torch.channels_last), labels[rows]

    return SimpleNamespace(
        clock=SimpleNamespace(enter=lambda phase: None),
        feed=SimpleNamespace(augments=config.changes_pixels, batch=gather),
        draws=Draws(config),
        mixer=mixer(config),
        sizes={"training": micro},
    )


@pytest.mark.parametrize("flip", [False, True])
def test_splits_and_processes_leave_every_bit(flip):
    config = AugmentConfig(mixup=0.4, cutmix=1.0, flip=flip)
    images, labels = batch(60)
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(3))[:23]
    [(order, whole, shares)] = micro_batches(parts(config, 64, images, labels), 5, rows, rank=0, size=1)
    assert torch.equal(order, rows)
    assert torch.allclose(shares.sum(1), torch.ones(23))
    for micro, size in ((1, 1), (5, 1), (4, 2), (3, 3), (2, 25)):
        made = parts(config, micro, images, labels)
        for rank in range(size):
            pieces = list(micro_batches(made, 5, rows, rank=rank, size=size))
            announced = gathered(made, rows, rank=rank, size=size)
            assert len(announced) == len(pieces) == -(-len(rows[rank::size]) // micro)
            if pieces:
                got = [torch.cat(piece) for piece in zip(*pieces, strict=True)]
                assert torch.equal(got[0], rows[rank::size])
                assert torch.equal(got[1], whole[rank::size])
                assert torch.equal(got[2], shares[rank::size])


def test_a_wrong_partner_would_have_been_seen():
    """The control: mixed with the neighbour within its micro-batch, an image depends on the split."""
    images, labels = batch(60)
    rows = torch.arange(20)
    [(_, whole, _)] = micro_batches(parts(BOTH, 64, images, labels), 5, rows, rank=0, size=1)
    mixture = mixer().draw(5, 20)
    first, _ = mixer().mix(images[:10], labels[:10], (torch.arange(10) - 1) % 10, mixture.of(torch.arange(10)))
    assert not torch.equal(first, whole[:10])


def test_labels_keep_their_mass_where_both_are_of_one_class():
    images, _ = batch(2)
    mixture = Mixture(torch.tensor([0.3, 0.3]).double(), torch.zeros(2, 4, dtype=torch.int64), torch.tensor([0.3, 0.3]))
    _, shares = mixer().mix(images, torch.tensor([2, 2]), torch.tensor([1, 0]), mixture)
    assert torch.allclose(shares, F.one_hot(torch.tensor([2, 2]), CLASSES).float())
