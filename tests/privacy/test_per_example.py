import contextlib

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from runner.errors import RequestError
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.per_example import trainable
from runner.privacy.mechanism.random_layers import LayerKeys, draw_by_example

MODES = ("ghost", "functional", "hooks")


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 5),
    )


def group_resnet():
    return torchvision.models.resnet18(num_classes=5, norm_layer=lambda channels: nn.GroupNorm(8, channels))


def transformer():
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
    )


def batch(shape, size=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, *shape, generator=generator).to(dtype), torch.arange(size) % 5


def rows(found):
    return [gradient.rows() for gradient in found.gradients]


def one_at_a_time(model, images, labels):
    parameters = list(trainable(model).values())
    found = [torch.autograd.grad(loss(model(images[[i]]), labels[[i]]).sum(), parameters) for i in range(len(labels))]
    return [torch.stack(column) for column in zip(*found, strict=True)]


def traces(model):
    """Everything that hooks could leave on a model."""
    return (
        [name for name in vars(model) if "grad_sample" in name],
        [name for name, p in model.named_parameters() if set(vars(p)) or p.grad is not None],
        [
            name
            for name, module in model.named_modules()
            if module._forward_hooks
            or module._backward_hooks
            or module._forward_pre_hooks
            or "activations" in vars(module)
        ],
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_equal_to_one_example_at_a_time(mode, scale):
    torch.manual_seed(0)
    model = small_cnn().double()
    images, labels = batch((1, 8, 8), dtype=torch.float64)
    found = per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext, scale=scale)(images, labels)
    for gradient, expected in zip(rows(found), one_at_a_time(model, images, labels), strict=True):
        torch.testing.assert_close(gradient / scale, expected, rtol=1e-12, atol=1e-14)
    logits = model(images)
    torch.testing.assert_close(found.losses, loss(logits, labels).detach())
    assert torch.equal(found.hits, logits.argmax(1) == labels)
    assert not found.losses.requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_the_model_is_left_as_it_was(mode):
    model = small_cnn()
    keys = list(model.state_dict())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext)(*batch((1, 8, 8)))
    assert list(model.state_dict()) == keys
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert traces(model) == ([], [], [])
    assert model[2].inplace


def test_hooks_leave_nothing_behind_after_a_failure():
    model = small_cnn()

    def broken(logits, labels):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        per_example_gradients("hooks", model, loss=broken, forward=contextlib.nullcontext)(*batch((1, 8, 8)))
    assert traces(model) == ([], [], [])
    assert model[2].inplace


@pytest.mark.parametrize("mode", MODES)
def test_new_weights_are_seen_under_autocast(mode):
    # Autocast caches 16-bit copies of weights: a stale copy would give the gradient of old weights.
    model = small_cnn()
    images, labels = batch((1, 8, 8))

    def bfloat16():
        return torch.autocast("cpu", torch.bfloat16)

    gradients = per_example_gradients(mode, model, loss=loss, forward=bfloat16)
    gradients(images, labels)
    with torch.no_grad():
        model[6].weight.mul_(-3.0)
    fresh = per_example_gradients(mode, model, loss=loss, forward=bfloat16)(images, labels)
    for gradient, expected in zip(rows(gradients(images, labels)), rows(fresh), strict=True):
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_give_float32_gradients_close_to_exact_ones(mode, dtype):
    torch.manual_seed(0)
    model = small_cnn()
    images, labels = batch((1, 8, 8))
    found = per_example_gradients(mode, model, loss=loss, forward=lambda: torch.autocast("cpu", dtype))(images, labels)
    assert {gradient.dtype for gradient in rows(found)} == {torch.float32}
    with torch.autocast("cpu", dtype):
        ordinary = joined(one_at_a_time(model, images, labels))
    exact = joined(one_at_a_time(model, images, labels))
    # no further from the exact gradient than ordinary back-propagation in the same precision, give or take rounding
    assert 0 < (joined(rows(found)) - exact).norm() < 2 * (ordinary - exact).norm()


def joined(gradients):
    return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


@pytest.mark.parametrize("mode", MODES)
def test_in_place_residual_sums_work(mode):
    torch.manual_seed(0)
    model = group_resnet().double()
    images, labels = batch((3, 32, 32), size=2, dtype=torch.float64)
    found = per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext)(images, labels)
    # the hooks multiply convolutions out in another order than back-propagation, in float32
    tolerance = {"rtol": 1e-8, "atol": 1e-12} if mode == "functional" else {"rtol": 1e-4, "atol": 1e-6}
    for gradient, expected in zip(rows(found), one_at_a_time(model, images, labels), strict=True):
        torch.testing.assert_close(gradient, expected, **tolerance)
    assert traces(model) == ([], [], [])


@pytest.mark.parametrize("mode", ["functional", "hooks"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_attention_and_layer_norm(mode, dtype):
    torch.manual_seed(0)
    model = transformer()
    nn.init.normal_(model.heads.head.weight)
    images, labels = batch((3, 16, 16), size=3)

    def forward():
        return torch.autocast("cpu", dtype) if dtype else contextlib.nullcontext()

    found = per_example_gradients(mode, model, loss=loss, forward=forward)(images, labels)
    for gradient, expected in zip(rows(found), one_at_a_time(model, images, labels), strict=True):
        assert (gradient - expected).norm() <= (0.1 if dtype else 1e-5) * expected.norm() + 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_frozen_parameters_have_no_gradient(mode):
    model = small_cnn()
    for parameter in (*model[0].parameters(), model[6].bias):
        parameter.requires_grad_(False)
    images, labels = batch((1, 8, 8))
    found = per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext)(images, labels)
    names = list(trainable(model))
    assert names == ["1.weight", "1.bias", "3.weight", "3.bias", "6.weight"]
    for gradient, expected in zip(rows(found), one_at_a_time(model, images, labels), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


class Scaled(nn.Module):
    """A layer without a rule that takes a tensor by name, and others in a list."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, images, *, scale, more=()):
        return images * self.weight * scale + sum(more)


class ByName(nn.Module):
    """Calls its layers with keyword arguments."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.scaled = Scaled()
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        hidden = self.norm(input=self.convolution(input=images)).relu().mean(3).flatten(1)[:, :16]
        hidden = self.scaled(hidden, scale=hidden.square().mean(1, keepdim=True), more=[hidden, 2 * hidden])
        return self.head(input=hidden)


@pytest.mark.parametrize("mode", ["ghost", "functional"])
def test_layers_that_are_called_with_keyword_arguments(mode):
    torch.manual_seed(0)
    model = ByName().double()
    images, labels = batch((1, 8, 8), dtype=torch.float64)
    found = per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext)(images, labels)
    torch.testing.assert_close(rows(found), one_at_a_time(model, images, labels), rtol=1e-10, atol=1e-12)


def test_hooks_refuse_what_they_cannot_see_of_a_call_and_leave_nothing():
    model = ByName()
    gradients = per_example_gradients("hooks", model, loss=loss, forward=contextlib.nullcontext)
    with pytest.raises(RequestError, match=r"got hooks, expected functional: a Conv2d is given input by name$"):
        gradients(*batch((1, 8, 8)))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_parameter_that_hooks_do_not_see_is_refused():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(64, 5)
            self.unused = nn.Linear(3, 3)

        def forward(self, images):
            return self.used(images.flatten(1))

    with pytest.raises(RequestError, match=r"privacy\.grad_sample: got hooks.*unused\.weight"):
        per_example_gradients("hooks", Offset(), loss=loss, forward=contextlib.nullcontext)(*batch((1, 8, 8)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.SyncBatchNorm(4), nn.InstanceNorm2d(4, track_running_stats=True)]
)
def test_running_statistics_are_refused(mode, norm):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, norm)
    with pytest.raises(RequestError, match=r"model\.norm: got .*expected (group|BatchNorm)"):
        per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_below_float32_are_refused(dtype):
    with pytest.raises(RequestError, match=r"precision\.amp_dtype: got weight in torch"):
        per_example_gradients("functional", nn.Linear(2, 2).to(dtype), loss=loss, forward=contextlib.nullcontext)


def test_names():
    with pytest.raises(RequestError, match="did you mean hooks"):
        per_example_gradients("hook", nn.Linear(2, 2), loss=loss, forward=contextlib.nullcontext)


def test_dropout_masks_follow_from_the_keys_of_examples_in_every_way():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 5))
    images = torch.ones(3, 1, 8, 8)
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="random"):
        per_example_gradients("functional", model, loss=loss, forward=contextlib.nullcontext)(images, labels)
    draw_by_example(model)
    found = []
    for mode in MODES:
        LayerKeys.of(model).set(torch.tensor([4, 5, 4]))
        gradients = per_example_gradients(mode, model, loss=loss, forward=contextlib.nullcontext)
        found.append(rows(gradients(images, labels))[0])
    assert not torch.equal(found[0][0], found[0][1])
    assert torch.equal(found[0][0], found[0][2])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
