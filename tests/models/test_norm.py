"""GroupNorm in the place of BatchNorm."""

import pytest
import torch
from torch import nn

from runner.config.schema import ModelConfig
from runner.models.batch_statistics import batch_norms
from runner.models.build import build_network
from runner.models.norm import batch_to_group, groups_for


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (3, 1), (7, 1), (16, 4), (24, 6), (40, 10), (64, 16), (96, 24), (128, 32), (2048, 32)],
)
def test_groups(channels, groups):
    assert groups_for(channels) == groups


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
def test_no_batch_statistics_are_left(name):
    config = ModelConfig(target="runner.models.from_torchvision.build", name=name)
    torch.manual_seed(0)
    model = build_network(config, channels=3, num_classes=4, image_size=32, norm="group")
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    images = torch.randn(4, 3, 32, 32)
    model.eval()
    torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-3, atol=1e-4)
    assert model(images).std(0).min() > 1e-4, "a group of one value normalises everything away"


def test_a_layer_of_another_library_counts_by_what_it_derives_from():
    class Synchronised(nn.modules.batchnorm._BatchNorm):
        def _check_input_dim(self, images):
            pass

    assert batch_norms(nn.Sequential(Synchronised(4))) == ["0"]


def test_scale_shift_and_epsilon_are_kept():
    batch = nn.BatchNorm2d(8, eps=0.5)
    nn.init.normal_(batch.weight)
    nn.init.normal_(batch.bias)
    group = batch_to_group(nn.Sequential(batch))[0]
    assert (group.num_groups, group.eps) == (2, 0.5)
    assert torch.equal(group.weight, batch.weight)
    assert torch.equal(group.bias, batch.bias)
    assert isinstance(batch_to_group(nn.BatchNorm1d(4, affine=False)), nn.GroupNorm)
