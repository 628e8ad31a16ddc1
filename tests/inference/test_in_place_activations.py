"""Writing over activations changes no bit, and nothing that somebody else may look at."""

import copy

import pytest
import torch
from torch import nn

from runner.inference.in_place_activations import activate_in_place
from runner.models.convolutional import small_cnn


class Around(nn.Sequential):
    """What its layers are given goes into its result again."""

    def forward(self, images):
        return images + super().forward(images)


def test_the_same_bits_with_activations_in_place():
    torch.manual_seed(0)
    model = small_cnn(in_channels=3, num_classes=10, image_size=16).eval()
    changed = activate_in_place(copy.deepcopy(model))
    assert [layer.inplace for layer in changed if isinstance(layer, nn.ReLU)] == [True] * 3
    assert [type(layer) for layer in changed][1:4] == [nn.GroupNorm, nn.MaxPool2d, nn.ReLU]
    images = torch.randn(8, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(changed(images), model(images))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.SiLU()], ids=lambda layer: type(layer).__name__)
def test_only_what_never_falls_waits_for_the_pooling(activation):
    images = torch.linspace(-9, 9, 2 * 3 * 7 * 7).view(2, 3, 7, 7)
    images[0, 0, 3, 3] = float("nan")
    model = nn.Sequential(nn.Identity(), activation, nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True))
    expected = model(images.clone())
    changed = activate_in_place(copy.deepcopy(model))
    assert isinstance(changed[1], nn.MaxPool2d) == isinstance(activation, nn.ReLU | nn.ReLU6)
    assert torch.equal(changed(images.clone()).nan_to_num(-5), expected.nan_to_num(-5))


def test_what_another_may_look_at_is_left():
    before_others = nn.Sequential(nn.ReLU(), nn.Identity(), nn.ReLU())
    of_its_own = Around(nn.Linear(4, 4), nn.ReLU())
    activate_in_place(nn.ModuleList([before_others, of_its_own, nn.Linear(4, 4), nn.ReLU()]))
    assert not any(layer.inplace for layer in [before_others[0], before_others[2], of_its_own[1]])
