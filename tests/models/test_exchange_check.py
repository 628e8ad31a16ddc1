"""BatchNorm is exchanged for GroupNorm and nothing else changes, or the layer is refused by name."""

import copy
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from runner.errors import RequestError
from runner.models import exchange_check, norm
from runner.models.exchange_check import exchange
from runner.privacy.example_gradients.grad_sample import refuse_shared_statistics
from tests.models.hand_made import hand_made

timm = pytest.importorskip("timm") if find_spec("timm") else None
SHAPE = (3, 8, 8)


def around(layer, channels=8):
    """A network with ``layer`` behind a convolution to ``channels``."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), layer, nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(144, 5)
    )


def drawn(layer):
    """``layer`` with weights that are told apart."""
    torch.manual_seed(1)
    for parameter in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def of_timm(name, *args, **options):
    from timm import layers

    return getattr(layers, name)(*args, **options)


def synchronised_with_activation():
    from timm.layers import BatchNormAct2d
    from timm.layers.norm_act import convert_sync_batchnorm

    return convert_sync_batchnorm(BatchNormAct2d(8, act_layer=nn.LeakyReLU, act_kwargs={"negative_slope": 0.3}))


class Plain(nn.BatchNorm2d):
    """A subclass that computes the same."""

    def __init__(self, channels):
        super().__init__(channels, eps=0.1)


EXCHANGED = {
    "plain": lambda: nn.BatchNorm2d(8, eps=0.2),
    "prime": lambda: nn.BatchNorm2d(7),
    "no weights": lambda: nn.BatchNorm2d(8, affine=False),
    "no shift": lambda: nn.BatchNorm2d(8, bias=False),
    "no statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "synchronised": lambda: nn.SyncBatchNorm(8),
    "subclass": lambda: Plain(8),
    "one-dimensional": lambda: nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(8), nn.Unflatten(2, (8, 8))),
}
OF_TIMM = {
    "relu": lambda: of_timm("BatchNormAct2d", 8),
    "silu and dropout": lambda: of_timm("BatchNormAct2d", 8, act_layer=nn.SiLU, drop_layer=nn.Dropout),
    "parameters of the activation": lambda: of_timm("BatchNormAct2d", 8, act_layer=nn.ELU, act_kwargs={"alpha": 0.3}),
    "weights of the activation": lambda: of_timm("BatchNormAct2d", 8, act_layer=nn.PReLU, inplace=None),
    "no activation": lambda: of_timm("BatchNormAct2d", 8, apply_act=False, eps=0.3),
    "synchronised": synchronised_with_activation,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name) for name, make in EXCHANGED.items()]
    + ([pytest.param(make, id=f"timm {name}") for name, make in OF_TIMM.items()] if timm else []),
)
def test_what_is_exchanged_equals_an_exchange_by_hand(make, training):
    layer = make()
    model = around(layer, getattr(layer, "num_features", 8))
    for module in model.modules():
        drawn(module)
    expected, count = hand_made(model)
    found = exchange(model, image_shape=SHAPE)
    assert count == 1
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in found.modules())
    images = torch.randn(3, *SHAPE, dtype=torch.float64)
    outputs = []
    for each in (expected, found):
        torch.manual_seed(2)
        outputs.append(each.double().train(training)(images))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)


def test_the_parameters_stay_the_very_same():
    model = around(drawn(nn.BatchNorm2d(8, eps=0.5)))
    weight, bias = model[1].weight, model[1].bias
    weight.requires_grad_(False)
    found = exchange(model, image_shape=SHAPE)[1]
    assert found.weight is weight
    assert found.bias is bias
    assert (found.eps, found.weight.requires_grad) == (0.5, False)


def test_a_layer_in_two_places_stays_one():
    shared = nn.BatchNorm2d(3)
    model = exchange(nn.Sequential(shared, nn.ReLU(), shared, nn.Sequential(shared)), image_shape=SHAPE)
    assert isinstance(model[0], nn.GroupNorm)
    assert model[0] is model[2] is model[3][0]


def test_a_network_that_is_one_layer():
    assert isinstance(exchange(nn.BatchNorm2d(3), image_shape=SHAPE), nn.GroupNorm)


def test_nothing_else_is_left_changed():
    model = around(nn.Sequential(nn.BatchNorm2d(8), nn.Dropout(0.5), nn.utils.spectral_norm(nn.Conv2d(8, 8, 1))))
    model[1][1].eval()
    kept = copy.deepcopy({name: value for name, value in model.state_dict().items() if "running" not in name})
    state = torch.get_rng_state()
    exchange(model, image_shape=SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[name], kept[name]) for name in model.state_dict())
    assert [module.training for module in model[1]] == [True, False, True]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in (model, model[0], model[1][0]))


def test_frozen_statistics_stay_and_that_is_said():
    told = []
    exchange(around(FrozenBatchNorm2d(8)), image_shape=SHAPE, tell=told.append)
    (line,) = told
    assert "1 stays: frozen BatchNorm is a fixed scale" in line


def test_what_takes_no_statistics_of_a_batch_stays():
    frozen = [drawn(FrozenBatchNorm2d(8))]
    if timm:
        kinds = ("FrozenBatchNormAct2d", "FilterResponseNormAct2d", "FilterResponseNormTlu2d", "LayerNorm2d")
        frozen += [of_timm(name, 8) for name in kinds]
        frozen += [of_timm("GroupNormAct", 8, num_groups=2), of_timm("EvoNorm2dS0", 8, groups=2)]
    for layer in [*frozen, nn.InstanceNorm2d(8), nn.LayerNorm([8, 8]), nn.GroupNorm(2, 8)]:
        assert exchange(around(layer), image_shape=SHAPE)[1] is layer


class WithActivation(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(super().forward(x))


class WithGain(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(()))


class ByItself(nn.Module):
    """Normalises with the statistics of the batch, without a layer for it."""

    def forward(self, x):
        return F.batch_norm(x, None, None, training=True)


class FromScratch(nn.Module):
    """BatchNorm as in a textbook."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))

    def forward(self, x):
        mean = x.mean((0, 2, 3))
        if self.training:
            self.running_mean += 0.1 * (mean - self.running_mean)
        return x - (mean if self.training else self.running_mean)[:, None, None]


class Hidden(nn.Module):
    """Uses a layer that it does not show."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.BatchNorm2d(8)]

    def forward(self, x):
        return self.layers[0](x)


class Fused(nn.Module):
    """Folds its normalisation into a scale when it is not training."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        if self.training:
            return self.bn(x)
        return x / (self.bn.running_var[:, None, None] + self.bn.eps).sqrt()


def hooked():
    layer = nn.BatchNorm2d(8)
    layer.register_forward_hook(lambda module, inputs, output: output.relu())
    return layer


def replaced_forward():
    layer = nn.BatchNorm2d(8)
    layer.forward = lambda x: F.relu(nn.BatchNorm2d.forward(layer, x))
    return layer


REFUSED = {
    "a forward of its own": (lambda: WithActivation(8), "1 (WithActivation)", "a forward pass of its own"),
    "another forward": (replaced_forward, "1 (BatchNorm2d)", "a forward pass of its own"),
    "another weight": (lambda: WithGain(8), "1 (WithGain)", "it has gain beside"),
    "computed weights": (
        lambda: nn.utils.parametrizations.weight_norm(nn.BatchNorm2d(8)),
        "1 (ParametrizedBatchNorm2d)",
        "it has parametrizations beside",
    ),
    "hooks": (hooked, "1 (BatchNorm2d)", "hooks"),
    "lazy": (lambda: nn.LazyBatchNorm2d(), "1 (LazyBatchNorm2d)", "channels are not known"),
    "tracked instances": (
        lambda: nn.InstanceNorm2d(8, track_running_stats=True),
        "1 (InstanceNorm2d)",
        "track_running_stats=False",
    ),
    "compiled": (lambda: torch.jit.script(nn.BatchNorm2d(8)), "1 (BatchNorm2d)", "TorchScript"),
    "by itself": (ByItself, "1 (ByItself)", "normalises over the batch by itself"),
    "from scratch": (FromScratch, "1 (FromScratch)", "keeps a running_mean"),
    "hidden": (Hidden, "1 (Hidden)", "normalises over the batch by itself"),
    "fused": (Fused, "1 (Fused), which fails", "has no attribute 'running_var'"),
    "one value": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 1, 1), nn.BatchNorm2d(1), nn.Upsample(64)),
        "1.2 (BatchNorm2d)",
        "a single value",
    ),
    "fails": (
        lambda: nn.Sequential(nn.BatchNorm2d(8), nn.Linear(3, 3)),
        "1.1 (Linear), which fails",
        "takes two random images",
    ),
}
REFUSED_OF_TIMM = {
    "split": (lambda: of_timm("SplitBatchNorm2d", 8), "1 (SplitBatchNorm2d)", "a forward pass of its own"),
    "in place": (lambda: of_timm("InplaceAbn", 8), "1 (InplaceAbn)", "in one operation"),
    **{
        f"evolved {kind}": (lambda kind=kind: of_timm(f"EvoNorm2d{kind}", 8), f"1 (EvoNorm2d{kind})", "activation")
        for kind in ("B0", "B1", "B2")
    },
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize(
    ("make", "named", "reason"),
    [pytest.param(*case, id=name) for name, case in REFUSED.items()]
    + ([pytest.param(*case, id=f"timm {name}") for name, case in REFUSED_OF_TIMM.items()] if timm else []),
)
def test_what_cannot_be_exchanged_is_refused_by_name(make, named, reason):
    with pytest.raises(RequestError) as error:
        exchange(around(make()), image_shape=SHAPE)
    assert error.value.key == "model.norm"
    assert named in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "make"),
    [
        ("activation", lambda: of_timm("BatchNormAct2d", 8)),
        ("dropout", lambda: of_timm("BatchNormAct2d", 8, drop_layer=nn.Dropout, apply_act=False)),
        ("epsilon", lambda: nn.BatchNorm2d(8)),
        ("shift", lambda: nn.BatchNorm2d(8)),
        ("groups", lambda: nn.BatchNorm2d(8)),
    ],
)
def test_the_check_sees_what_an_exchange_left_out(damage, make, monkeypatch):
    if timm is None and damage in ("activation", "dropout"):
        pytest.skip("timm is an extra that is not installed")
    right = norm._group_norm

    def wrong(batch):
        group = right(batch)
        if damage in ("activation", "dropout"):
            return group[0]
        if damage == "epsilon":
            group.eps = 2e-5
        elif damage == "shift":
            group.bias = None
        else:
            group.num_groups = 1
        return group

    model = around(drawn(make()))
    monkeypatch.setattr(norm, "_group_norm", wrong)
    with pytest.raises(RequestError, match=r"model\.norm: got group with 1 \(BatchNorm.*gives other values"):
        exchange(copy.deepcopy(model), image_shape=SHAPE)
    monkeypatch.setattr(exchange_check, "_compare", lambda *traces: None)
    exchange(model, image_shape=SHAPE)  # nobody else would have noticed


def test_an_exchange_by_class_alone_would_lose_the_activation():
    """A subclass that activates, replaced for being a BatchNorm, is seen by its values."""
    layer = WithActivation(8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.models.batch_statistics._is_more", lambda layer: None)
        with pytest.raises(RequestError, match=r"1 \(WithActivation\).*gives other values"):
            exchange(around(layer), image_shape=SHAPE)


@pytest.mark.skipif(timm is None, reason="timm is an extra that is not installed")
@pytest.mark.parametrize("name", ["densenet121", "test_efficientnet", "test_byobnet"])
def test_networks_of_timm(name):
    small = {"block_config": (1, 1), "growth_rate": 4} if name == "densenet121" else {}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, **small).eval()
    expected, count = hand_made(model)
    activations = sum(isinstance(module, nn.ReLU | nn.SiLU) for module in model.modules())
    found = exchange(model, image_shape=(3, 32, 32))
    assert sum(isinstance(module, nn.ReLU | nn.SiLU) for module in found.modules()) == activations > 0
    assert sum(isinstance(module, nn.GroupNorm) for module in found.modules()) == count
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(found.double()(images), expected.double()(images), rtol=1e-12, atol=1e-12)


def test_privacy_refuses_by_the_same_names():
    with pytest.raises(RequestError, match=r"statistics over the batch in 1, expected group"):
        refuse_shared_statistics(around(nn.BatchNorm2d(8)))
    with pytest.raises(RequestError, match=r"group with 1 \(InstanceNorm2d\).*track_running_stats=False"):
        refuse_shared_statistics(around(nn.InstanceNorm2d(8, track_running_stats=True)))
    refuse_shared_statistics(around(FrozenBatchNorm2d(8)))
