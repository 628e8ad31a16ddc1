"""Per-example gradients of every model, by torch.func and by Opacus' hooks, against one backward per example."""

import pytest
import torch
import torch.nn.functional as F
from opacus import GradSampleModule
from torch import nn
from torch.func import functional_call, grad, vmap

from runner.config.schema import ModelConfig
from runner.errors import RunError
from runner.models.build import build_network
from runner.privacy.example_gradients.out_of_place import out_of_place

TORCHVISION = "runner.models.from_torchvision.build"
TARGETS = {
    "linear": "runner.models.dense.linear",
    "mlp": "runner.models.dense.mlp",
    "small_cnn": "runner.models.convolutional.small_cnn",
    "tanh_cnn": "runner.models.convolutional.tanh_cnn",
    "resnet18": TORCHVISION,
    "mobilenet_v3_small": TORCHVISION,
    "efficientnet_b0": TORCHVISION,
}
# Every example draws its own dropout, so the gradients of two ways can only be compared without.
DETERMINISTIC = {
    "mobilenet_v3_small": {"dropout": 0.0},
    "efficientnet_b0": {"dropout": 0.0, "stochastic_depth_prob": 0.0},
}


pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def build(name, **options):
    torch.manual_seed(0)
    config = ModelConfig(target=TARGETS[name], name=name, options=options)
    return build_network(config, channels=1, num_classes=3, image_size=8, norm="group").train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([0, 1, 2])


def one_by_one(model, x, y):
    rows = []
    for i in range(len(x)):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def by_vmap(model, x, y):
    def loss(parameters, xi, yi):
        with out_of_place():
            return F.cross_entropy(functional_call(model, parameters, (xi[None],)), yi[None])

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return list(vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")(parameters, x, y).values())


def by_hooks(model, x, y):
    hooked = GradSampleModule(model, loss_reduction="sum")
    with out_of_place():
        logits = hooked(x)
    F.cross_entropy(logits, y, reduction="sum").backward()
    return [p.grad_sample for p in hooked.parameters()]


@pytest.mark.parametrize("way", [by_vmap, by_hooks])
@pytest.mark.parametrize("name", TARGETS)
def test_equals_one_backward_per_example(name, way, batch):
    model = build(name, **DETERMINISTIC.get(name, {}))
    expected = one_by_one(model, *batch)
    found = way(model, *batch)
    scale = torch.cat([g.flatten() for g in expected]).norm()
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * scale


@pytest.mark.parametrize(("name", "way"), [("mobilenet_v3_small", by_vmap), ("mobilenet_v3_small", by_hooks)])
def test_models_that_drop_at_random_train_too(name, way, batch):
    assert all(g.isfinite().all() for g in way(build(name), *batch))


def test_each_example_has_its_own_stochastic_depth(batch):
    x, y = batch
    model = build("efficientnet_b0", dropout=0.0, stochastic_depth_prob=0.9)
    same = by_vmap(model, x[:1].expand(8, -1, -1, -1), y[:1].expand(8))
    differ = max((g - g[:1]).abs().max().item() for g in same)
    assert differ > 1e-3


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_hooks_need_the_context(name, batch):
    with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
        GradSampleModule(build(name))(batch[0])


def test_values_are_the_same(batch):
    model = build("resnet18")
    with out_of_place():
        inside = model(batch[0])
    assert torch.equal(inside, model(batch[0]))


class ReadsWhatItWrote(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        y.add_(1.0)
        return y * 2


def test_a_write_that_is_read_again_is_refused():
    hooked = GradSampleModule(ReadsWhatItWrote())
    with out_of_place(), pytest.raises(RunError, match=r"grad_sample=functional"):
        hooked(torch.ones(2, 4))
    plain = ReadsWhatItWrote()
    with out_of_place():
        assert torch.equal(plain(torch.ones(2, 4)), 2 * (plain.layer(torch.ones(2, 4)) + 1))
