"""The lean step does what ``optimizer.step`` does, and steps aside where somebody listens."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from runner.internals.optimizer_step import lean_step


def optimizer_with_gradient(kind=torch.optim.AdamW, **options):
    parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    parameter.grad = torch.full((2, 3), 0.5)
    return kind([parameter], lr=0.1, **options), parameter


@pytest.mark.parametrize("options", [{}, {"fused": True}])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_the_weights_are_those_of_the_ordinary_step_and_torch_opens_no_range(kind, options, monkeypatch):
    theirs, expected = optimizer_with_gradient(kind, **options)
    ours, found = optimizer_with_gradient(kind, **options)
    for _ in range(3):
        theirs.step()

    class Refused:
        def __init__(self, name):
            raise AssertionError(name)

    monkeypatch.setattr(torch.autograd.profiler, "record_function", Refused)
    with pytest.raises(AssertionError, match=r"Optimizer\.step"):
        theirs.step()
    for _ in range(3):
        lean_step(ours)
    assert torch.equal(found, expected)
    assert found.requires_grad
    assert torch.is_grad_enabled()


def test_hooks_are_called():
    called = []
    optimizer, parameter = optimizer_with_gradient()
    before = parameter.clone()
    handles = [
        optimizer.register_step_pre_hook(lambda *_: called.append("before")),
        optimizer.register_step_post_hook(lambda *_: called.append("after")),
        register_optimizer_step_post_hook(lambda *_: called.append("after any")),
    ]
    for number, handle in enumerate(handles, start=1):
        lean_step(optimizer)
        assert len(called) == sum(range(3, 3 - number, -1))
        handle.remove()
    lean_step(optimizer)
    assert called == ["before", "after", "after any", "after", "after any", "after any"]
    assert not torch.equal(parameter, before)


def test_a_step_of_the_instance_is_taken():
    optimizer, _ = optimizer_with_gradient()
    called = []
    optimizer.step = lambda: called.append("mine")
    lean_step(optimizer)
    assert called == ["mine"]


def test_a_profiler_sees_its_range():
    optimizer, _ = optimizer_with_gradient()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiler:
        lean_step(optimizer)
    assert any(event.key == "Optimizer.step#AdamW.step" for event in profiler.key_averages())
