"""The switch, and that both of its ways give the same bits."""

import subprocess
import sys

import pytest
import torch

from runner.errors import RequestError
from runner.internals import attention, backward, counting, foreach, functional_grad, loss_scale, optimizer_step
from runner.internals.plain import PLAIN_VARIABLE, plain_torch
from tests.conftest import ROOT


def say(monkeypatch, value):
    monkeypatch.setenv(PLAIN_VARIABLE, value)
    plain_torch.cache_clear()


@pytest.fixture(params=["0", "1"])
def way(request, monkeypatch):
    say(monkeypatch, request.param)
    return request.param


def both(monkeypatch, work):
    """What ``work`` gives by the measured way, and by the public one."""
    found = []
    for value in ("0", "1"):
        say(monkeypatch, value)
        found.append(work())
    return found


def same_bits(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("value", "plain"), [("", False), ("0", False), ("1", True)])
def test_the_variable_says_which_way(monkeypatch, value, plain):
    say(monkeypatch, value)
    assert plain_torch() is plain


def test_it_is_read_once(monkeypatch):
    say(monkeypatch, "1")
    assert plain_torch()
    monkeypatch.setenv(PLAIN_VARIABLE, "0")
    assert plain_torch()


def test_another_value_is_refused(monkeypatch):
    say(monkeypatch, "yes")
    with pytest.raises(RequestError, match="RECIPE_RUNNER_PLAIN_TORCH: got yes, expected 1"):
        plain_torch()


def test_another_value_ends_a_command_before_it_begins(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "runner", "--version"],
        cwd=ROOT,
        env={"PATH": "", PLAIN_VARIABLE: "on"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {PLAIN_VARIABLE}: got on, expected 1")


SPECIAL = [1.0, -0.0, 65504.0, float("inf"), float("nan")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("worst", SPECIAL)
@pytest.mark.parametrize("scale", [1.0, 2.0**15, 3.0])
def test_gradients_are_unscaled_alike(monkeypatch, worst, scale, dtype):
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(5, 3, generator=generator, dtype=dtype), torch.tensor([0.25, worst], dtype=dtype)]

    def work():
        own, found = [gradient.clone() for gradient in gradients], torch.zeros(())
        loss_scale.unscale_(own, found, torch.tensor(scale).reciprocal())
        return [found, *(gradient.nan_to_num(nan=-1.5) for gradient in own)]

    ours, public = both(monkeypatch, work)
    assert same_bits(ours, public)
    assert bool(ours[0]) is (worst != worst or worst == float("inf"))


def test_what_was_found_before_stays(way):
    found = torch.ones(())
    loss_scale.unscale_([torch.ones(2)], found, torch.ones(()))
    assert found == 1


def test_no_gradient_is_finite(way):
    found = torch.zeros(())
    loss_scale.unscale_([], found, torch.ones(()))
    assert found == 0


@pytest.mark.parametrize(("growth", "backoff"), [(2.0, 0.5), (1.7, 0.3)])
def test_the_scale_moves_alike(monkeypatch, growth, backoff):
    def work():
        scale, tracker, seen = torch.tensor(2.0**126), torch.zeros((), dtype=torch.int32), []
        for step in range(40):
            found = torch.tensor(float(step in (9, 10, 25)))
            loss_scale.update_scale_(scale, tracker, found, growth, backoff, 3)
            seen += [scale.clone(), tracker.clone()]
        return seen

    ours, public = both(monkeypatch, work)
    assert same_bits(ours, public)
    assert len({float(scale) for scale in ours[::2]}) >= 3


def test_a_step_of_the_loop_is_the_same_by_both_ways(monkeypatch):
    def work():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            backward.lean_backward(model(torch.ones(2, 4)).square().sum(), torch.tensor(1 / 3))
            optimizer_step.lean_step(optimizer)
        return [parameter.detach() for parameter in model.parameters()]

    assert same_bits(*both(monkeypatch, work))


def test_gradients_of_functions_are_the_same_by_both_ways(monkeypatch):
    def work():
        with functional_grad.compiler_left_out():
            return [torch.func.vmap(torch.func.grad(lambda x: x.sin().sum()))(torch.linspace(0, 1, 6).view(2, 3))]

    assert same_bits(*both(monkeypatch, work))


def test_zeros_by_both_ways(way):
    tensors = [torch.ones(2), torch.full((3, 1), float("nan"))]
    foreach.zero_(tensors)
    assert not any(tensor.any() for tensor in tensors)


def test_operations_are_counted_alike(monkeypatch):
    class Names(counting.Operations):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    def work():
        with Names() as names:
            torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).relu()
        return names.seen

    ours, public = both(monkeypatch, work)
    assert ours == public
    assert "aten.relu.default" in ours


def test_the_body_of_attention_computes_what_attention_does():
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    images = torch.randn(3, 5, 8)
    expected = layer(images, images, images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "multi_head_attention_forward", attention.multi_head_attention_body)
        found = layer(images, images, images)
    assert same_bits(expected, found)


CALLS = {
    "unscale": (torch, "_amp_foreach_non_finite_check_and_unscale_"),
    "update": (torch, "_amp_update_scale_"),
    "zero": (torch, "_foreach_zero_"),
    "backward": (backward, "_RUN"),
}
WORK = {
    "unscale": lambda: loss_scale.unscale_([torch.ones(2)], torch.zeros(()), torch.ones(())),
    "update": lambda: loss_scale.update_scale_(
        torch.ones(()), torch.zeros((), dtype=torch.int32), torch.zeros(()), 2.0, 0.5, 3
    ),
    "zero": lambda: foreach.zero_([torch.ones(2)]),
    "backward": lambda: backward.lean_backward(torch.ones((), requires_grad=True) * 2, torch.ones(())),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_public_way_calls_nothing_private_and_the_other_does(monkeypatch, name):
    def refused(*_, **__):
        raise AssertionError("called")

    monkeypatch.setattr(*CALLS[name], refused)
    say(monkeypatch, "1")
    WORK[name]()
    say(monkeypatch, "0")
    with pytest.raises(AssertionError, match="called"):
        WORK[name]()


def test_a_mode_sees_what_a_backward_pass_calls_by_both_ways(way):
    class Seen(torch.overrides.TorchFunctionMode):
        called = False

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.called |= func is torch.Tensor.sin
            return func(*args, **(kwargs or {}))

    class Back(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient.sin()

    total = Back.apply(torch.ones((), requires_grad=True))
    with Seen() as seen:
        backward.backward_in_sight(total, torch.ones(()))
    assert seen.called, "the check of private models in 16 bits depends on it"
