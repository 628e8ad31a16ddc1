"""A model is taken for one that draws nothing only where that is known."""

import pytest
import torch
from torch import nn

from runner.models.dense import mlp
from runner.training.gradients.stochastic_models import is_stochastic


class Own(nn.Linear):
    """Of a class that torch does not know."""


def hooked():
    layer = nn.Linear(2, 2)
    layer.register_forward_pre_hook(lambda module, args: (args[0] + torch.rand(2),))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.1),
        nn.Dropout2d(0.1),
        nn.AlphaDropout(0.1),
        nn.RReLU(),
        nn.FractionalMaxPool2d(2, output_ratio=0.5),
        nn.MultiheadAttention(4, 2, dropout=0.1),
        nn.TransformerEncoderLayer(4, 2),
        nn.GRU(2, 2, num_layers=2, dropout=0.1),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        Own(2, 2),
        hooked(),
    ],
)
def test_whatever_may_draw_is_seeded(layer):
    assert is_stochastic(nn.Sequential(nn.Linear(2, 2), layer))


def test_torchs_own_plain_layers_draw_nothing():
    norms = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.MaxPool2d(2), nn.GELU())
    for model in (mlp(in_channels=1, num_classes=3, image_size=8), norms):
        assert not is_stochastic(model)
        model.train()
        before = torch.get_rng_state()
        model(torch.zeros(2, 1, 8, 8))
        assert torch.equal(torch.get_rng_state(), before)
