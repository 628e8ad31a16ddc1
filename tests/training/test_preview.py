"""The picture of a batch before and after augmentation: the images that training sees, and no other training for it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from runner.config.augment_config import AugmentConfig
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.preview import caption, changes, pixels


def test_a_run_leaves_the_picture_and_trains_as_without(train):
    recipe = ("data.augment.erasing=1", "data.augment.mixup=1", "trainer.steps=2", "model=linear")
    with_picture, without = train(*recipe, "data.preview=true"), train(*recipe)
    picture = np.asarray(Image.open(io.BytesIO((with_picture / "preview.png").read_bytes())))
    # 2 blocks of 8 pairs, each image of 8 x 8 pixels 15 times as large
    assert picture.shape == (2 * 284 + 36, 64 + 8 * 128 + 8, 3)
    before, after = picture[36:156, 64:184], picture[164:284, 64:184]
    assert before.std() > 30
    assert after.std() > 10
    assert (before != after).mean() > 0.2
    assert not (without / "preview.png").exists()
    one, two = (load_checkpoint(run / "checkpoints" / "last").weights for run in (with_picture, without))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_pixels_come_back_from_normalised_ones():
    levels = torch.arange(256, dtype=torch.float64).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    mean, std = (0.4, 0.5, 0.1), (0.2, 0.3, 0.25)
    normalised = (levels / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    assert (pixels(normalised.float(), mean, std) == levels.permute(0, 2, 3, 1).numpy()).all()
    assert pixels(normalised[:, :2].float(), mean[:2], std[:2]).shape == (2, 16, 16, 3)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.tensor(1), "dog"),
        (torch.tensor([0.0, 0.0, 1.0]), "a bird"),
        (torch.tensor([0.25, 0.0, 0.75]), "75% a bird + 25% cat"),
    ],
)
def test_captions_name_classes_and_their_shares(label, words):
    assert caption(label, ("cat", "dog", "a bird")) == words


def test_the_title_says_what_is_on():
    assert changes(AugmentConfig()) == []
    assert changes(AugmentConfig(flip=True, rotation=5.0)) == ["flip=true", "rotation=5"]
