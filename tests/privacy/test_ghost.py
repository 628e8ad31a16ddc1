import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.errors import RequestError
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.parameter import Convolutions, Products, Rows, product_norms
from runner.privacy.example_gradients.per_example import trainable


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


class Attention(nn.Module):
    """A layer without a rule, called with keyword arguments, that returns a tuple."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        tokens = self.embed(images.flatten(1, 2))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.norm(tokens).mean(1))


class Recurring(nn.Module):
    """Layers used twice: the norm of a sum is not to be had from the norms of its terms."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)
        self.wide = nn.Linear(64, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, images):
        hidden = self.convolution(self.convolution(images).tanh()).flatten(1)
        return self.head(self.wide(self.wide(hidden).tanh()))


def sequence(*layers, channels=4, side=8):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 5))


def with_norms():
    convolutions = (nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(4), nn.Conv2d(8, 64, 2, padding=1))
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(576, 5))


def in_place():
    activations = nn.ReLU(inplace=True), nn.SiLU(inplace=True)
    return sequence(nn.Conv2d(1, 4, 3, padding=1), activations[0], nn.GroupNorm(2, 4), activations[1])


def tokens():
    layers = nn.Linear(8, 64), nn.RMSNorm(64), nn.Linear(64, 8)
    return nn.Sequential(nn.Flatten(1, 2), *layers, nn.Flatten(), nn.Linear(64, 5))


MODELS = {
    "materialised": lambda: sequence(nn.Conv2d(1, 4, 3, padding=1)),
    "norms": with_norms,
    "dilated": lambda: sequence(nn.Conv2d(1, 4, 3, dilation=2, padding=(2, 1)), nn.AdaptiveAvgPool2d(8)),
    "groups": lambda: sequence(nn.Conv2d(1, 4, 1), nn.Tanh(), nn.Conv2d(4, 8, 3, groups=2, padding=1), channels=8),
    "depthwise": lambda: sequence(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=4, stride=2), side=2),
    "reflection": lambda: sequence(nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")),
    "same": lambda: sequence(nn.Conv2d(1, 4, 3, padding="same")),
    "transposed": lambda: sequence(nn.ConvTranspose2d(1, 4, 3, padding=1)),
    "in place": in_place,
    "layer norm": lambda: sequence(nn.LayerNorm([1, 8, 8]), channels=1),
    "instance norm": lambda: sequence(nn.Conv2d(1, 4, 1), nn.InstanceNorm2d(4, affine=True)),
    "tokens": tokens,
    "attention": Attention,
    "recurring": Recurring,
}


def batch(size=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(size) % 5


def ghost(model):
    return per_example_gradients("ghost", model, loss=loss, forward=contextlib.nullcontext)


def one_at_a_time(model, images, labels):
    parameters = list(trainable(model).values())
    found = [torch.autograd.grad(loss(model(images[[i]]), labels[[i]]).sum(), parameters) for i in range(len(labels))]
    return [torch.stack(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", MODELS)
def test_norms_sums_and_rows_are_those_of_single_gradients(name, layout):
    torch.manual_seed(0)
    model = MODELS[name]().double().to(memory_format=layout)
    images, labels = batch()
    images = images.to(memory_format=layout)
    found = ghost(model)(images, labels).gradients
    weights = torch.tensor([0.5, 0.0, -1.0, 2.0, 0.1], dtype=torch.float64)
    for gradients, expected in zip(found, one_at_a_time(model, images, labels), strict=True):
        torch.testing.assert_close(gradients.norms(), expected.flatten(1).norm(dim=1), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            gradients.weighted_sum(weights, None), torch.tensordot(weights, expected, 1), rtol=1e-10, atol=1e-12
        )
        torch.testing.assert_close(gradients.rows(), expected, rtol=1e-10, atol=1e-12)


def test_the_cheaper_rule_is_taken_for_each_layer():
    found = ghost(MODELS["norms"]().double())(*batch()).gradients
    assert [type(gradients) for gradients in found] == [Rows, Rows, Convolutions, Rows, Products, Rows]


@pytest.mark.parametrize("name", ["materialised", "norms", "tokens", "attention"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_dropped_example_leaves_nothing(name, value):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    images, labels = batch()
    images[2] = value
    found = ghost(model)(images, labels).gradients
    norms = torch.stack([gradients.norms() for gradients in found]).sum(0)
    dropped = ~norms.isfinite()
    assert dropped.tolist() == [False, False, True, False, False]
    weights = torch.where(dropped, 0.0, 1.0).double()
    keep = torch.tensor([0, 1, 3, 4])
    for gradients, expected in zip(found, one_at_a_time(model, images[keep], labels[keep]), strict=True):
        torch.testing.assert_close(gradients.weighted_sum(weights, dropped), expected.sum(0), rtol=1e-10, atol=1e-12)


def test_norms_of_cancelling_terms_are_right_in_float32():
    # outputs that alternate in sign: single terms are a thousand times larger than their sum
    torch.manual_seed(0)
    inputs = torch.ones(2, 16, 8) + 1e-3 * torch.randn(2, 16, 8)
    outputs = torch.tensor([1.0, -1.0]).repeat(8).view(1, 16, 1) * torch.ones(2, 16, 8)
    exact = torch.linalg.vector_norm(outputs.double().transpose(1, 2) @ inputs.double(), dim=(1, 2))
    assert (product_norms(inputs, outputs) - exact).abs().max() < 1e-6 * exact.min()
    narrow = (inputs @ inputs.transpose(1, 2) * (outputs @ outputs.transpose(1, 2))).sum((1, 2)).sqrt()
    assert not (narrow - exact).abs().max() < 1e-5 * exact.min()


def test_parameters_around_layers_are_refused_by_name():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Parameter(torch.zeros(5))
            self.inner = nn.Linear(64, 5)

        def forward(self, images):
            return self.inner(images.flatten(1)) + self.offset

    model = nn.Sequential(nn.Identity(), Offset()).double()
    with pytest.raises(
        RequestError, match=r"got ghost, expected functional: 1 has parameters of its own around 1\.inner"
    ):
        ghost(model)(*batch())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_shared_and_unused_parameters_are_refused_by_name():
    tied = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64))
    tied[2].weight = tied[1].weight
    with pytest.raises(RequestError, match="2 shares a parameter with 1"):
        ghost(tied)
    unused = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    unused[1].register_module("spare", nn.Linear(3, 3))
    with pytest.raises(RequestError, match=r"no layer used 1\.spare\.weight"):
        ghost(unused.double())(*batch())


def test_a_layer_without_a_rule_that_draws_random_numbers_is_not_run_twice():
    model = Attention().double()
    model.attention.dropout = 0.5
    with pytest.raises(RuntimeError, match="random"):
        ghost(model)(*batch())


def test_dropout_masks_are_those_of_the_forward_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 5)).double()
    images, labels = batch()
    torch.manual_seed(7)
    weight = ghost(model)(images, labels).gradients[0]
    torch.manual_seed(7)
    expected = torch.autograd.grad(loss(model(images), labels).sum(), model[2].weight)[0]
    torch.testing.assert_close(weight.weighted_sum(torch.ones(5, dtype=torch.float64), None), expected)
