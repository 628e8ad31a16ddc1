"""Writing over activations changes no bit, and nothing that somebody else may look at."""

import copy

import torch
from torch import nn

from runner.inference.in_place import activate_in_place
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
    images = torch.randn(8, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(changed(images), model(images))


def test_what_another_may_look_at_is_left():
    before_others = nn.Sequential(nn.ReLU(), nn.Identity(), nn.ReLU())
    of_its_own = Around(nn.Linear(4, 4), nn.ReLU())
    activate_in_place(nn.ModuleList([before_others, of_its_own, nn.Linear(4, 4), nn.ReLU()]))
    assert not any(layer.inplace for layer in [before_others[0], before_others[2], of_its_own[1]])
