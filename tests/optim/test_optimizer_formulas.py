"""Every option's update, over several steps, is that of its paper's algorithm, written out here in float64."""

import io
import sys

import pytest
import torch
from torch import nn

from runner.errors import RequestError
from runner.optim.optimizer import build_optimizer
from runner.training.checkpointing.optimizer_attributes import load_optimizer, save_optimizer

STEPS, LR, DECAY = 4, 0.02, 0.1
ROUNDING = 1e-12
"""Relative to the largest weight: a few hundred roundings of float64."""


@pytest.fixture
def optimizer_of(configure):
    """optimizer_of(model, "optimizer=adan", ...) -> the optimizer that the option builds, at ``LR`` and ``DECAY``."""

    def build(model, name, *overrides):
        settings = (f"optimizer.lr={LR}", f"optimizer.weight_decay={DECAY}", "optimizer.decay_norm_and_bias=true")
        config = configure(f"optimizer={name}", *settings, *overrides)
        return build_optimizer(config.optimizer, model, fused=None)

    return build


def start_and_gradients():
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 4), (5, 3, 3, 3), (7,)]
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return start, [
        [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in start] for _ in range(STEPS)
    ]


def by_optimizer(build, *, saved_after=None, load=load_optimizer):
    """The weights after all steps; ``saved_after`` so many the optimizer is saved, and another one goes on."""
    start, gradients = start_and_gradients()
    model = nn.ParameterList(nn.Parameter(p.clone()) for p in start)
    optimizer = build(model)
    for number, step in enumerate(gradients):
        if number == saved_after:
            file = io.BytesIO()
            torch.save(save_optimizer(optimizer), file)
            optimizer = build(model)
            load(optimizer, torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        for parameter, gradient in zip(model, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [p.detach() for p in model]


def by_formula(update):
    """``update(weights, gradient, state, step)`` -> the weights after a step; ``state`` begins empty."""
    weights, gradients = start_and_gradients()
    states = [{} for _ in weights]
    for number, step in enumerate(gradients, start=1):
        weights = [update(w, g, s, number) for w, g, s in zip(weights, step, states, strict=True)]
    return weights


def off(found, expected):
    return max(float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, expected, strict=True))


def adam_direction(g, state, t, betas, eps):
    state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g.square()
    return state["m"] / (1 - betas[0] ** t) / ((state["v"] / (1 - betas[1] ** t)).sqrt() + eps)


def lars(w, g, state, t, *, trust=0.001, eps=1e-8, decay=DECAY):
    """You et al. 2017, algorithm 1; the rate of a layer is in its momentum, as in the authors' code."""
    local = trust * w.norm() / (g.norm() + decay * w.norm() + eps)
    step = local * (g + decay * w)
    state["v"] = 0.9 * state["v"] + step if "v" in state else step
    return w - LR * state["v"]


def lamb(w, g, state, t, *, ratio=True):
    """You et al. 2020, algorithm 2, with phi(x) = x."""
    step = adam_direction(g, state, t, (0.9, 0.999), 1e-6) + DECAY * w
    return w - LR * (w.norm() / step.norm() if ratio else 1) * step


def lion(w, g, state, t, *, mean_first=False):
    """Chen et al. 2023, algorithm 2."""
    mean = state.get("m", torch.zeros_like(g))
    state["m"] = 0.99 * mean + 0.01 * g
    direction = (state["m"] if mean_first else 0.9 * mean + 0.1 * g).sign()
    return (1 - LR * DECAY) * w - LR * direction


def adan(w, g, state, t, *, difference=True):
    """Xie et al. 2022, algorithm 1, with the corrections of the running means that its code has."""
    change = g - state.get("before", g) if difference else torch.zeros_like(g)
    state["before"] = g
    b1, b2, b3 = 0.98, 0.92, 0.99
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["d"] = b2 * state.get("d", 0) + (1 - b2) * change
    state["n"] = b3 * state.get("n", 0) + (1 - b3) * (g + b2 * change).square()
    root = (state["n"] / (1 - b3**t)).sqrt() + 1e-8
    step = (state["m"] / (1 - b1**t) + b2 * state["d"] / (1 - b2**t)) / root
    return (w - LR * step) / (1 + LR * DECAY)


def adafactor(w, g, state, t, *, factored=True):
    """Shazeer and Stern 2018, algorithms 4 and 5, with steps relative to the size of the weights."""
    keep = 1 - t**-0.8
    rate = max(1e-3, float(w.norm() / w.numel() ** 0.5)) * min(LR, t**-0.5)
    squares = g.square()
    if w.ndim > 1 and factored:
        state["r"] = keep * state.get("r", 0) + (1 - keep) * squares.mean(dim=-1, keepdim=True)
        state["c"] = keep * state.get("c", 0) + (1 - keep) * squares.mean(dim=-2, keepdim=True)
        estimate = state["r"] @ state["c"] / state["r"].mean(dim=-2, keepdim=True)
    else:
        state["v"] = keep * state.get("v", 0) + (1 - keep) * squares
        estimate = state["v"]
    update = g / estimate.sqrt()
    return (1 - LR * DECAY) * w - rate * update / max(1.0, float(update.norm() / w.numel() ** 0.5))


def nadam(w, g, state, t, *, ahead=True):
    """Dozat 2016, algorithm 2, with its schedule of the momentum and decoupled decay."""
    now, later = (0.9 * (1 - 0.5 * 0.96 ** (n * 0.004)) for n in (t, t + 1))
    # torch keeps this product in float32
    state["product"] = float(torch.tensor(state.get("product", 1.0)) * now)
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g.square()
    root = (state["v"] / (1 - 0.999**t)).sqrt() + 1e-8
    mean = later * state["m"] / (1 - state["product"] * later) if ahead else state["m"] / (1 - state["product"])
    return (1 - LR * DECAY) * w - LR * (mean + (1 - now) * g / (1 - state["product"])) / root


def radam(w, g, state, t, *, rectified=True):
    """Liu et al. 2020, algorithm 2, with decoupled decay."""
    w = (1 - LR * DECAY) * w
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g.square()
    mean = state["m"] / (1 - 0.9**t)
    longest = 2 / (1 - 0.999) - 1
    length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
    if length <= 5 and rectified:
        return w - LR * mean
    length = max(length, 4.5)
    scale = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
    return w - LR * scale * mean * (1 - 0.999**t) ** 0.5 / (state["v"].sqrt() + 1e-8)


COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Of the five rounds, as timm has them from the authors' later code; the first publication repeats one triple."""


def muon(w, g, state, t, *, rounds=5, momentum=0.95):
    """Jordan et al. 2024 for matrices, with updates of the size that Liu et al. 2025 (equation 4) give them."""
    state["m"] = momentum * state.get("m", 0) + (1 - momentum) * g
    x = ((1 - momentum) * g + momentum * state["m"]).reshape(len(g), -1)
    x = x / x.norm()
    for a, b, c in COEFFICIENTS[:rounds]:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (1 - LR * DECAY) * w - LR * 0.2 * max(x.shape) ** 0.5 * x.reshape(w.shape)


def muon_of_vectors(w, g, state, t):
    """AdamW with Nesterov's momentum, which timm takes for weights of one dimension."""
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.95 * state.get("v", 0) + 0.05 * g.square()
    root = (state["v"] / (1 - 0.95**t)).sqrt() + 1e-8
    return (1 - LR * DECAY) * w - LR * (0.9 * state["m"] + 0.1 * g) / (1 - 0.9**t) / root


FORMULAS = {
    "lars": (lars, {"decay": 0.0}),
    "lamb": (lamb, {"ratio": False}),
    "lion": (lion, {"mean_first": True}),
    "adan": (adan, {"difference": False}),
    "adafactor": (adafactor, {"factored": False}),
    "nadam": (nadam, {"ahead": False}),
    "radam": (radam, {"rectified": False}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_update_is_the_paper_s_and_not_a_neighbour_of_it(optimizer_of, name):
    formula, wrong = FORMULAS[name]
    found = by_optimizer(lambda model: optimizer_of(model, name))
    assert off(found, by_formula(formula)) < ROUNDING
    assert off(found, by_formula(lambda *given: formula(*given, **wrong))) > 1e-6


def of_updates(found, expected):
    """The largest difference, in units of the size of an entry of an update."""
    return max(
        float((f - e).norm() / (STEPS * LR * 0.2 * f.numel() ** 0.5)) for f, e in zip(found, expected, strict=True)
    )


def test_muon_makes_updates_orthogonal(optimizer_of):
    """The rounds are in bfloat16, whose 8 bits round each of the sums by up to 2^-9 of what they add up."""
    found = by_optimizer(lambda model: optimizer_of(model, "muon"))
    assert off(found[2:], by_formula(muon_of_vectors)[2:]) < ROUNDING
    assert of_updates(found[:2], by_formula(muon)[:2]) < 2 * 2**-8
    for wrong in ({"rounds": 4}, {"momentum": 0.9}):
        assert of_updates(found[:2], by_formula(lambda *given, wrong=wrong: muon(*given, **wrong))[:2]) > 4 * 2**-8


@pytest.mark.parametrize("name", [*FORMULAS, "muon"])
def test_one_that_is_saved_goes_on_to_the_same_bits(optimizer_of, name):
    whole, cut = (by_optimizer(lambda model: optimizer_of(model, name), saved_after=at) for at in (None, 2))
    assert all(map(torch.equal, whole, cut))


def test_as_torch_loads_it_nadam_goes_on_otherwise(optimizer_of):
    """It turns the float32 of NAdam's product of momenta to the float64 of the weights."""

    def load(optimizer, saved):
        optimizer.load_state_dict(saved["optimizer"])

    whole = by_optimizer(lambda model: optimizer_of(model, "nadam"))
    cut = by_optimizer(lambda model: optimizer_of(model, "nadam"), saved_after=2, load=load)
    assert not all(map(torch.equal, whole, cut))


def test_an_optimizer_of_a_package_that_is_not_installed(optimizer_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r"timm\.optim\.Lamb \(not installed\), expected an installed timm"):
        by_optimizer(lambda model: optimizer_of(model, "lamb"))


@pytest.mark.parametrize(("name", "betas"), [("adan", "[0.9,0.99]"), ("adamw", "[0.9,0.9,0.99]")])
def test_as_many_betas_as_the_class_takes(optimizer_of, name, betas):
    with pytest.raises(RequestError, match=r"optimizer\.betas: got .*, expected [23] numbers for optimizer="):
        by_optimizer(lambda model: optimizer_of(model, name, f"optimizer.betas={betas}"))
