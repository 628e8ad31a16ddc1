"""Optimizers: parameter groups, fused kernels, and one-line answers to wrong options."""

import pytest
import torch
from torch import nn

from runner.config.schema import OptimizerConfig
from runner.errors import RequestError
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


STEPS = 3
LR, DECAY = 0.02, 0.5
OPTIONS: dict[str, dict[str, float]] = {
    "SGD": {"momentum": 0.9},
    "Adam": {"eps": 1e-3},
    "AdamW": {"eps": 1e-3},
    "RMSprop": {"eps": 1e-3},
}
ROUNDINGS = 40
"""At most so many roundings lie between the gradients and the update that the third step subtracts, in the longest of
the formulas (Adam with its decay in the gradient): decay 4, the mean of the gradients 5 a step (3 operations, 2 rounded
coefficients), half of 6 a step for the root of the mean of their squares, 9 from there to the product with the rate."""


def start_and_gradients(dtype):
    """Parameters and gradients with nothing that cancels: all positive, so that every sum is of positive terms.

    They are drawn in float32, so that each type starts from the same numbers.  Gradients that go through a network are
    differences themselves: of this one's first layer, which two values are normalised behind, they are a ten-thousandth
    of the others, rounding changes them by a thousandth of their size, and Adam divides that size out.
    """
    generator = torch.Generator().manual_seed(0)
    start = [1 + torch.rand(p.shape, generator=generator) for p in network().parameters()]
    gradients = [[10.0 ** (-4 * torch.rand(p.shape, generator=generator)) for p in start] for _ in range(STEPS)]
    return [p.to(dtype) for p in start], [[g.to(dtype) for g in step] for step in gradients]


def updated(build, dtype):
    start, gradients = start_and_gradients(dtype)
    model = network().to(dtype)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), start, strict=True):
            parameter.copy_(value)
    optimizer = build(model)
    for step in gradients:
        for parameter, gradient in zip(model.parameters(), step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [p.detach().double() for p in model.parameters()]


def built(target, dtype):
    settings = config(target, lr=LR, weight_decay=DECAY, decay_norm_and_bias=True, **OPTIONS[target])
    return updated(lambda model: build_optimizer(settings, model, fused=None), dtype)


def plain(target):
    """torch's own class, one parameter at a time, in float64."""
    kind, options = getattr(torch.optim, target), OPTIONS[target]
    return updated(
        lambda model: kind(model.parameters(), lr=LR, weight_decay=DECAY, foreach=False, **options), torch.float64
    )


def roundings(found, reference, dtype):
    """The largest difference, in units of what the roundings of ``dtype`` can make of it at most.

    A step multiplies a parameter by its decay (itself rounded) and subtracts an update of relative error ``ROUNDINGS``
    u, u being half of eps: at most u (3 |p| + ROUNDINGS |update|).  |p| only falls.  That p is off by a few u moves the
    next update through the coupled decay by less than the roundings that are counted twice here.
    """
    half_eps = torch.finfo(dtype).eps / 2
    start = start_and_gradients(torch.float64)[0]
    allowed = [half_eps * (3 * STEPS * p + ROUNDINGS * (p - r)) for p, r in zip(start, reference, strict=True)]
    return max(float(((f - r).abs() / a).max()) for f, r, a in zip(found, reference, allowed, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("target", list(OPTIONS))
def test_update_equals_the_plain_class(target, dtype):
    reference = plain(target)
    assert all((r > 0).all() for r in reference)  # or the bound would not hold
    assert roundings(built(target, dtype), reference, dtype) <= 1


def adam(*, eps, coupled=False, decay_last=False, first_step=1):
    """Adam (Kingma and Ba 2015, algorithm 1) with decoupled or coupled decay, by its formulas, in float64."""
    start, gradients = start_and_gradients(torch.float64)
    means, squares = [torch.zeros_like(p) for p in start], [torch.zeros_like(p) for p in start]
    for t, step in enumerate(gradients, start=first_step):
        for i, g in enumerate(step):
            g = g + DECAY * start[i] if coupled else g
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.999 * squares[i] + 0.001 * g.square()
            update = LR * means[i] / (1 - 0.9**t) / ((squares[i] / (1 - 0.999**t)).sqrt() + eps)
            factor = 1.0 if coupled else 1 - LR * DECAY
            start[i] = factor * (start[i] - update) if decay_last else factor * start[i] - update
    return start


@pytest.mark.parametrize("target", ["Adam", "AdamW"])
def test_the_comparison_would_see_a_wrong_adam(target):
    coupled, right = target == "Adam", OPTIONS[target]["eps"]
    reference = plain(target)
    assert roundings(adam(eps=right, coupled=coupled), reference, torch.float64) <= 2  # both of them round
    wrong = {
        "no eps": adam(eps=0.0, coupled=coupled),
        "the other eps": adam(eps=1e-8, coupled=coupled),
        "the other decay": adam(eps=right, coupled=not coupled),
        "correction one step late": adam(eps=right, coupled=coupled, first_step=2),
        "decay after the update": adam(eps=right, decay_last=True),
    }
    for name, found in wrong.items():
        assert roundings(found, reference, torch.float32) > 100, name


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
