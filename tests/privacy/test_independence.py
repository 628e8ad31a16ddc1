import pytest
import torch
from torch import nn

from runner.config.errors import RequestError
from runner.privacy.independence import check_examples_independent
from runner.privacy.random_layers import draw_by_example

MODES = ("functional", "hooks")


class Centre(nn.Module):
    def forward(self, rows):
        return rows - rows.mean(0)


class CentreInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.head = nn.Linear(64, 5)

    def forward(self, images):
        rows = self.flatten(images)
        return self.head(rows - rows.mean(0))


class ScaledInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(72, 5)

    def forward(self, images):
        hidden = self.conv(images)
        hidden += 1.0
        return self.head(hidden.flatten(1))


class OtherwiseAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 5)

    def forward(self, images):
        return self.head(images.flatten(1)) * (2.0 if len(images) == 1 else 1.0)


def mlp(*middle):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *middle, nn.ReLU(inplace=True), nn.Linear(32, 5))
    draw_by_example(model)
    return model


def check(model, mode, **changes):
    check_examples_independent(model, grad_sample=mode, image_shape=(1, 8, 8), **changes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("middle", [[], [nn.Dropout(0.5)], [nn.LayerNorm(32)], [nn.RMSNorm(32)]])
def test_a_model_that_treats_each_example_by_itself_passes(mode, middle):
    check(mlp(*middle), mode)
    check(mlp(*middle), mode, forward=lambda: torch.autocast("cpu", torch.bfloat16))


@pytest.mark.parametrize("mode", MODES)
def test_the_layer_that_mixes_is_named(mode):
    with pytest.raises(RequestError, match=r"model\.name: got 2 \(Centre\), which mixes the examples"):
        check(mlp(Centre()), mode)


@pytest.mark.parametrize("mode", MODES)
def test_mixing_between_layers_names_the_module_around_them(mode):
    with pytest.raises(RequestError, match="got CentreInside, which mixes"):
        check(CentreInside(), mode)
    with pytest.raises(RequestError, match=r"got 2 \(CentreInside\), which mixes"):
        check(nn.Sequential(nn.Identity(), nn.Identity(), CentreInside()), mode)


@pytest.mark.parametrize("mode", MODES)
def test_batch_normalisation_is_answered_with_group(mode):
    with pytest.raises(RequestError, match=r"model\.norm: .*expected group"):
        check(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5)), mode)


@pytest.mark.parametrize("mode", MODES)
def test_changes_in_place_between_layers_pass(mode):
    check(ScaledInPlace(), mode)


def test_a_wrong_gradient_is_told_from_back_propagation():
    with pytest.raises(RequestError, match="hooks, whose gradients of OtherwiseAlone differ from back-propagation"):
        check(OtherwiseAlone(), "hooks")


@pytest.mark.parametrize("mode", MODES)
def test_the_model_and_the_random_state_are_left_as_they_were(mode):
    model = mlp(nn.Dropout(0.5)).eval()
    model[1].train()
    modes = [module.training for module in model.modules()]
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    check(model, mode)
    assert torch.equal(state, torch.get_rng_state())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(values[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_model_is_left_as_it_was(mode):
    model = mlp(Centre()).eval()
    with pytest.raises(RequestError):
        check(model, mode)
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_that_read_another_padding_are_refused():
    """Opacus takes a reflecting convolution for one that pads with zeros, and says nothing."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(128, 5))
    with pytest.raises(RequestError, match=r"hooks, whose gradients of Sequential differ from back-propagation"):
        check(model, "hooks")
    check(model, "functional")
    check(model, "ghost")
