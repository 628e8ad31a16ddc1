"""float16 on a CPU: the numbers of stock autocast, in every kind of pass, without a float16 product."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
import torchvision
from opacus import GradSampleModule
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from runner.models.convolutional import small_cnn
from runner.training.precision.cpu_float16 import half_forward

CONVOLUTIONS = {
    "plain": (nn.Conv2d(4, 6, 3), (2, 4, 7, 7)),
    "one by one": (nn.Conv2d(4, 6, 1, bias=False), (2, 4, 5, 5)),
    "strided and padded": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 8, 8)),
    "uneven": (nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1)), (2, 4, 9, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), (2, 4, 7, 7)),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 7, 7)),
    "same, even kernel": (nn.Conv2d(4, 6, (4, 3), padding="same"), (2, 4, 7, 7)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 7, 7)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 7, 7)),
    "unbatched": (nn.Conv2d(4, 6, 3), (4, 7, 7)),
    "1d": (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
    "3d": (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5)),
    "linear": (nn.Linear(12, 5), (3, 12)),
    "linear without bias": (nn.Linear(12, 5, bias=False), (3, 2, 12)),
    "linear of a vector": (nn.Linear(12, 5), (12,)),
    "attention": (nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8)),
}


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stock():
    return torch.autocast("cpu", torch.float16)


def cosine(a, b):
    a, b = (torch.cat([t.flatten().double() for t in ts]) for ts in (a, b))
    return F.cosine_similarity(a, b, dim=0).item()


def passed(module, shape, context):
    """Output and gradients by input and parameters of one pass."""
    x = drawn(shape).requires_grad_()
    with context():
        output = module(x, x, x)[0] if isinstance(module, nn.MultiheadAttention) else module(x)
    inputs = [x, *module.parameters()]
    return output, torch.autograd.grad(output, inputs, drawn(output.shape, seed=1).to(output.dtype))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_equals_stock_autocast_to_float16_rounding(name):
    module, shape = CONVOLUTIONS[name]
    output, gradients = passed(module, shape, half_forward)
    expected, expected_gradients = passed(module, shape, stock)
    assert output.dtype is torch.float16
    torch.testing.assert_close(output, expected, rtol=4e-3, atol=4e-3)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.dtype is theirs.dtype is torch.float32
        torch.testing.assert_close(ours, theirs, rtol=4e-3, atol=8e-3)


@pytest.mark.parametrize("name", ["plain", "grouped", "linear", "linear without bias"])
def test_is_float32_arithmetic_on_rounded_operands(name):
    module, shape = CONVOLUTIONS[name]
    rounded = {key: value.detach().half().float() for key, value in module.named_parameters()}
    expected = functional_call(module, rounded, drawn(shape).half().float()).half()
    with half_forward():
        assert torch.equal(module(drawn(shape)), expected)


class FloatProducts(TorchDispatchMode):
    """Counts matrix products and convolutions by the type that they run in."""

    KINDS = ("convolution", "addmm", "mm", "bmm", "baddbmm", "linear", "scaled_dot_product")

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(func.overloadpacket.__name__.lstrip("_").startswith(kind) for kind in self.KINDS):
            self.dtypes.update(a.dtype for a in args if isinstance(a, torch.Tensor) and a.is_floating_point())
        return func(*args, **(kwargs or {}))


def vit():
    return torchvision.models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=10
    )


def residual():
    return torchvision.models.resnet18(num_classes=10)


@pytest.mark.parametrize(("make", "size"), [(vit, 8), (residual, 32)])
def test_no_product_runs_in_float16(make, size):
    torch.manual_seed(0)
    model = make()
    dtypes = {}
    # Stock autocast only goes forwards here: its backward takes the slow kernels that all this is about.
    for name, context in (("ours", half_forward), ("stock", stock)):
        with FloatProducts() as products:
            with context():
                loss = model(drawn((2, 3, size, size))).float().square().mean()
            if context is half_forward:
                loss.backward()
        dtypes[name] = products.dtypes
    assert dtypes["ours"] == {torch.float32}
    assert torch.float16 in dtypes["stock"]


def test_gradients_of_a_network_are_those_of_autocast():
    torch.manual_seed(0)
    model = small_cnn(in_channels=1, num_classes=10, image_size=8, widths=(8, 16))
    x, y = drawn((4, 1, 8, 8)), torch.arange(4)

    def gradients(context):
        with context():
            loss = F.cross_entropy(model(x).float(), y)
        return torch.autograd.grad(loss, list(model.parameters()))

    ours, theirs, exact = (gradients(c) for c in (half_forward, stock, contextlib.nullcontext))
    assert cosine(ours, theirs) > 0.99999
    assert cosine(ours, exact) == pytest.approx(cosine(theirs, exact), abs=1e-4)
    assert cosine(ours, exact) < 1 - 1e-9, "the pass did not run in float16"


def test_gradients_overflow_like_float16():
    layer = nn.Conv2d(1, 1, 3, bias=False)
    x = torch.full((1, 1, 8, 8), 100.0)
    with half_forward():
        output = layer(x)
    (gradient,) = torch.autograd.grad(output, layer.weight, torch.full_like(output, 1000.0))
    assert torch.isinf(gradient).all()
    (small,) = torch.autograd.grad(F.conv2d(x, layer.weight), layer.weight, torch.full((1, 1, 6, 6), 1000.0))
    assert torch.isfinite(small).all()


def test_inputs_without_gradient_get_none():
    layer = nn.Conv2d(2, 3, 3)
    layer.bias.requires_grad_(False)
    x = drawn((1, 2, 5, 5))
    with half_forward():
        layer(x).sum().backward()
    assert x.grad is None
    assert layer.bias.grad is None
    assert layer.weight.grad is not None
    with torch.no_grad(), half_forward():
        assert not layer(x).requires_grad


def test_backward_inside_the_context():
    layer = nn.Linear(6, 4)
    x = drawn((3, 6)).requires_grad_()
    with half_forward():
        inside = torch.autograd.grad(layer(x).float().square().sum(), [x, layer.weight])
        output = layer(x).float().square().sum()
    outside = torch.autograd.grad(output, [x, layer.weight])
    for a, b in zip(inside, outside, strict=True):
        assert torch.equal(a, b)


def test_what_autocast_leaves_alone_stays():
    layer = nn.Linear(4, 2)
    x = drawn((3, 4))
    with half_forward():
        assert layer.double()(x.double()).dtype is torch.float64
        layer.float()
        with torch.autocast("cpu", enabled=False):
            assert layer(x).dtype is torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype is torch.bfloat16
        assert (torch.arange(4).reshape(2, 2) @ torch.ones(2, 2, dtype=torch.long)).dtype is torch.long
        out = torch.empty(3, 3)
        torch.mm(x, x.t(), out=out)
        assert layer(x).dtype is torch.float16
    assert layer(x).dtype is torch.float32
    assert torch.equal(out, x @ x.t())


def test_channels_last_is_kept():
    layer = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    with half_forward():
        output = layer(drawn((2, 4, 6, 6)).to(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(2, 4), nn.Tanh())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 36, 3))


def one_by_one(model, x, y):
    """Gradient of each example, by ordinary backward."""
    rows = []
    for i in range(len(x)):
        with half_forward():
            loss = F.cross_entropy(model(x[i : i + 1]).float(), y[i : i + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    return [torch.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("backward_inside", [False, True])
def test_per_example_gradients_by_vmap(network, backward_inside):
    x, y = drawn((3, 1, 8, 8)), torch.tensor([0, 1, 2])
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(p, xi, yi):
        with half_forward():
            logits = functional_call(network, p, (xi[None],))
        return F.cross_entropy(logits.float(), yi[None])

    with half_forward() if backward_inside else contextlib.nullcontext():
        found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    for ours, expected in zip(found.values(), one_by_one(network, x, y), strict=True):
        assert (ours - expected).norm() <= 2e-3 * expected.norm()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_per_example_gradients_by_hooks(network):
    x, y = drawn((3, 1, 8, 8)), torch.tensor([0, 1, 2])
    expected = one_by_one(network, x, y)
    hooked = GradSampleModule(network, loss_reduction="sum")
    with half_forward():
        loss = F.cross_entropy(hooked(x).float(), y, reduction="sum")
    loss.backward()
    for p, gradients in zip(hooked.parameters(), expected, strict=True):
        assert (p.grad_sample - gradients).norm() <= 2e-3 * gradients.norm()
