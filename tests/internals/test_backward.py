"""The lean backward pass does what ``Tensor.backward`` does, and calls nothing of torch's compiler."""

import pytest
import torch

from runner.internals.backward import lean_backward


def a_graph():
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) * (number + 1))
    images = torch.linspace(-2, 2, 20).view(4, 5)
    return list(model.parameters()), lambda: model(images).square().sum()


def test_gradients_are_those_of_the_ordinary_call_and_add_up():
    weight = torch.tensor(1 / 3)
    theirs, their_total = a_graph()
    ours, our_total = a_graph()
    for _ in range(2):
        their_total().backward(weight)
        lean_backward(our_total(), weight)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))
    assert all(parameter.grad.any() for parameter in ours)


def test_the_graph_is_freed():
    _, total = a_graph()
    value = total()
    lean_backward(value, torch.ones(()))
    with pytest.raises(RuntimeError, match="second time"):
        lean_backward(value, torch.ones(()))


def test_hooks_of_parameters_are_called():
    parameters, total = a_graph()
    called = []
    parameters[0].register_post_accumulate_grad_hook(called.append)
    lean_backward(total(), torch.ones(()))
    assert called == [parameters[0]]


def test_the_ordinary_call_asks_the_compiler_and_the_lean_one_does_not(monkeypatch):
    from torch.fx.experimental import symbolic_shapes

    def refused(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(symbolic_shapes, "sym_eq", refused)
    _, total = a_graph()
    with pytest.raises(AssertionError, match="asked"):
        total().backward(torch.ones(()))
    lean_backward(total(), torch.ones(()))
