"""Optimizers: parameter groups, fused kernels, and one-line answers to wrong options."""

import pytest
import torch
from torch import nn

from runner.config.errors import RequestError
from runner.config.schema import OptimizerConfig
from runner.optim.optimizer import build_optimizer


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 2))


def config(target="SGD", *, weight_decay=0.1, decay_norm_and_bias=False, **options):
    lr = options.pop("lr", 0.1)
    return OptimizerConfig(
        target=f"torch.optim.{target}",
        name=target.lower(),
        lr=lr,
        weight_decay=weight_decay,
        decay_norm_and_bias=decay_norm_and_bias,
        options=options,
    )


def decay_by_shape(optimizer):
    return {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


def test_decay_spares_norms_and_biases():
    decays = decay_by_shape(build_optimizer(config(), network(), fused=None))
    assert decays == {(4, 1, 3, 3): 0.1, (2, 4): 0.1, (4,): 0.0, (2,): 0.0}


def test_decay_of_everything_when_asked():
    decays = decay_by_shape(build_optimizer(config(decay_norm_and_bias=True), network(), fused=None))
    assert set(decays.values()) == {0.1}


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    optimizer = build_optimizer(config(), model, fused=None)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize("target", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_update_equals_the_plain_class(target):
    ours, plain = network(), network()
    momentum = {"momentum": 0.9} if target == "SGD" else {}
    built = build_optimizer(config(target, decay_norm_and_bias=True, **momentum), ours, fused=None)
    reference = getattr(torch.optim, target)(plain.parameters(), lr=0.1, weight_decay=0.1, **momentum)
    images = torch.randn(8, 1, 3, 3)
    for model, optimizer in ((ours, built), (plain, reference)):
        for _ in range(3):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("target", "fused", "expected"),
    [("SGD", None, True), ("Adam", None, True), ("AdamW", True, True), ("SGD", False, False)],
)
def test_fused(target, fused, expected):
    optimizer = build_optimizer(config(target), network(), fused=fused)
    assert bool(optimizer.defaults["fused"]) is expected


def test_fused_falls_back_where_there_are_no_kernels():
    assert "fused" not in build_optimizer(config("RMSprop"), network(), fused=None).defaults
    assert not build_optimizer(config(), network().bfloat16(), fused=None).defaults["fused"]


@pytest.mark.parametrize("model", [network().bfloat16(), network().to("meta")], ids=["bfloat16", "meta"])
def test_fused_is_refused_where_it_cannot_be(model):
    with pytest.raises(RequestError) as error:
        build_optimizer(config(), model, fused=True)
    assert error.value.key == "hardware.fused_optimizer"


def test_fused_is_refused_for_a_class_without_kernels():
    with pytest.raises(RequestError, match="rmsprop has no fused kernels"):
        build_optimizer(config("RMSprop"), network(), fused=True)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"momentum": -1.0}, "optimizer.momentum"),
        ({"nesterov": True}, "optimizer.nesterov"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay"),
        ({"lr": -0.1}, "optimizer.lr"),
        ({"target": "Adam", "betas": [0.9, 1.5]}, "optimizer.betas"),
        ({"target": "Adam", "eps": -1.0}, "optimizer.eps"),
        ({"target": "RMSprop", "alpha": -0.5}, "optimizer.alpha"),
        ({"target": "SGDD"}, "optimizer._target_"),
        ({"target": "lr_scheduler.StepLR"}, "optimizer._target_"),
        ({"foreach": True}, "optimizer.foreach"),
    ],
)
def test_refuses(settings, key):
    with pytest.raises(RequestError) as error:
        build_optimizer(config(**settings), network(), fused=None)
    assert error.value.key == key
    assert "\n" not in str(error.value)


def test_nearest_names():
    with pytest.raises(RequestError) as error:
        build_optimizer(config(momntum=0.9), network(), fused=None)
    assert (error.value.key, error.value.nearest) == ("optimizer.momntum", "momentum")
    with pytest.raises(RequestError) as error:
        build_optimizer(config("AdamV"), network(), fused=None)
    assert error.value.nearest == "Adam"


def test_weight_decay_where_the_class_has_none():
    with pytest.raises(RequestError, match="lbfgs has no weight decay"):
        build_optimizer(config("LBFGS"), network(), fused=None)
