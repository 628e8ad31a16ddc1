"""torch.func without the compiler; that a private run imports nothing of it is in tests/test_startup.py."""

import importlib
import sys

import pytest
import torch
from torch import nn
from torch._functorch import eager_transforms

from runner.internals.functional_grad import compiler_left_out


def one(parameters, image):
    used = torch.tanh(parameters["weight"] @ image).sum()
    return used, used.detach()


@pytest.fixture
def parts():
    torch.manual_seed(0)
    unused = torch.randn(2)  # a parameter that the loss does not depend on
    return {"weight": torch.randn(3, 4), "unused": unused}, torch.randn(5, 4)


def test_the_gradients_of_torchs_own_way(parts, monkeypatch):
    importlib.import_module("torch._dynamo")
    vectorised = torch.func.vmap(torch.func.grad(one, has_aux=True), in_dims=(None, 0))
    expected, _ = vectorised(*parts)
    monkeypatch.delitem(sys.modules, "torch._dynamo")
    torchs_own = eager_transforms._autograd_grad
    with compiler_left_out():
        assert eager_transforms._autograd_grad is not torchs_own
        found, _ = vectorised(*parts)
    assert eager_transforms._autograd_grad is torchs_own
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(found["unused"], torch.zeros(5, 2))
    assert found["weight"].any()


def test_a_loss_that_depends_on_nothing(parts, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    with compiler_left_out():
        found = torch.func.grad(lambda parameters: torch.ones(()))(parts[0])
    assert not any(gradient.any() for gradient in found.values())


def test_torchs_own_way_where_the_compiler_is():
    importlib.import_module("torch._dynamo")
    torchs_own = eager_transforms._autograd_grad
    with compiler_left_out():
        assert eager_transforms._autograd_grad is torchs_own


def test_torchs_own_way_is_back_after_a_failure(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    torchs_own = eager_transforms._autograd_grad
    with pytest.raises(RuntimeError, match="mat1 and mat2"), compiler_left_out():
        nn.Linear(3, 2)(torch.ones(1, 4))
    assert eager_transforms._autograd_grad is torchs_own
