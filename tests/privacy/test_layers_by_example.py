"""Layers that draw by example: the library's law, numbers that follow from the example's key alone, and refusals."""

import pytest
import torch
import torchvision  # its layer is known where it was imported
from timm.layers import DropPath
from torch import nn

from runner.errors import RequestError
from runner.privacy.mechanism.random_layers import LayerKeys, draw_by_example, drawing

LAYERS = {
    "values": (nn.Dropout(0.3), (24,), 0.3, True),
    "values of a map": (nn.Dropout(0.3, inplace=True), (3, 4, 2), 0.3, True),
    "channels 1d": (nn.Dropout1d(0.3), (6, 4), 0.3, True),
    "channels 2d": (nn.Dropout2d(0.3), (6, 2, 2), 0.3, True),
    "channels 3d": (nn.Dropout3d(0.3), (6, 2, 2, 1), 0.3, True),
    "torchvision's rows": (torchvision.ops.StochasticDepth(0.3, "row"), (5,), 0.3, True),
    "timm's rows": (DropPath(0.3), (5,), 0.3, True),
    "timm's rows as they are": (DropPath(0.3, scale_by_keep=False), (5,), 0.3, False),
    "everything": (nn.Dropout(1.0), (5,), 1.0, False),
    "nothing": (nn.Dropout(0.0), (5,), 0.0, False),
}
ROWS = 4000


def by_example(layer):
    model = nn.Sequential(layer).train()
    draw_by_example(model)
    return model


def masks(model, keys, shape):
    LayerKeys.of(model).set(keys)
    return model(torch.ones(len(keys), *shape))


@pytest.mark.parametrize("name", LAYERS)
def test_the_law_is_that_of_the_library(name):
    layer, shape, p, scaled = LAYERS[name]
    model = by_example(layer)
    found = masks(model, torch.arange(ROWS), shape)
    kept = 1 / (1 - p) if scaled else 1.0
    assert set(found.unique().tolist()) <= {0.0, torch.tensor(kept).item()}
    # what a library zeroes together is zeroed together
    together = (
        found.flatten(2).std(2) if "channels" in name else found.flatten(1).std(1) if "rows" in name else 0 * found
    )
    assert not together.any()
    units = found.flatten(2)[:, :, 0] if "channels" in name else found.flatten(1)[:, :1] if "rows" in name else found
    # five standard deviations of a binomial share
    assert abs((units == 0).float().mean() - p) <= 5 * (p * (1 - p) / units.numel()) ** 0.5
    torch.testing.assert_close(model.eval()(torch.ones(3, *shape)), torch.ones(3, *shape))


def test_numbers_follow_from_the_key_alone():
    model = by_example(nn.Dropout(0.5))
    keys = torch.tensor([7, -3, 2**62])
    whole = masks(model, keys, (64,))
    for place in range(3):
        assert torch.equal(masks(model, keys[place : place + 1], (64,)), whole[place : place + 1])
    assert torch.equal(masks(model, keys.flip(0), (64,)), whole.flip(0))
    # 1 of 2^64 per pair by chance
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], masks(model, keys + 1, (64,))[0])


def test_each_call_draws_anew_and_a_repeated_pass_draws_the_same():
    shared = nn.Dropout(0.5)
    model = nn.ModuleList([shared, nn.Dropout(0.5)]).train()
    draw_by_example(model)
    keys, ones = torch.arange(2), torch.ones(2, 64)
    passes = []
    for _ in range(2):
        LayerKeys.of(model).set(keys)
        passes.append([model[0](ones), model[1](ones), model[0](ones)])
    first, second, third = passes[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
    assert all(torch.equal(one, other) for one, other in zip(*passes, strict=True))


def test_neighbouring_values_rows_and_calls_are_uncorrelated():
    model = by_example(nn.Dropout(0.5))
    LayerKeys.of(model).set(torch.arange(256))
    drawn = [(model(torch.ones(256, 257)) == 0).double() - 0.5 for _ in range(2)]
    pairs = {
        "values": (drawn[0][:, 1:], drawn[0][:, :-1]),
        "rows": (drawn[0][1:], drawn[0][:-1]),
        "calls": (drawn[0], drawn[1]),
    }
    for name, (one, other) in pairs.items():
        correlation = 4 * (one * other).mean()
        assert abs(correlation) <= 5 / one.numel() ** 0.5, name


def test_layers_of_other_kinds_stay_what_they_are():
    class Own(nn.Dropout):
        pass

    layers = [nn.AlphaDropout(0.1), torchvision.ops.StochasticDepth(0.1, "batch"), Own(0.1), nn.Linear(2, 2)]
    kinds = [type(layer) for layer in layers]
    draw_by_example(nn.ModuleList(layers))
    assert [type(layer) for layer in layers] == kinds
    assert LayerKeys.of(nn.ModuleList(layers)) is None


@pytest.mark.parametrize("keys", [None, torch.arange(3)])
def test_a_layer_that_does_not_see_one_row_an_image_is_refused(keys):
    model = by_example(nn.Dropout(0.5))
    LayerKeys.of(model).set(keys)
    with pytest.raises(RequestError, match=r"one row an image"):
        model(torch.ones(6, 2))


def test_what_was_set_is_there_again_afterwards():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    draw_by_example(model)
    keys = LayerKeys.of(model)
    keys.set(torch.arange(3))
    with drawing(model, 2):
        assert len(keys.current) == 2
    assert len(keys.current) == 3
    with drawing(nn.Linear(2, 2), 5):
        pass
