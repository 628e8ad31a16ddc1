"""torch's optimizers without its compiler; that they import nothing is in tests/test_startup.py, in a fresh process."""

import importlib
import sys

import pytest
import torch

from runner.internals.without_compiler import leave_compiler_out

HIDDEN = torch.optim.Optimizer.add_param_group.__wrapped__


@pytest.fixture
def unused():
    """As in a process that has made no optimizer yet."""
    before = vars(HIDDEN).pop("__dynamo_disable", None)
    yield
    vars(HIDDEN).pop("__dynamo_disable", None)
    if before is not None:
        HIDDEN.__dynamo_disable = before


def make():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.5})
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.usefixtures("unused")
def test_torch_has_its_own_way_as_soon_as_the_compiler_is_there(monkeypatch):
    compiler = importlib.import_module("torch._dynamo")
    leave_compiler_out()
    ours = HIDDEN.__dynamo_disable
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch._dynamo")
        assert make() == [0.1, 0.5]
        assert "torch._dynamo" not in sys.modules
    assert HIDDEN.__dynamo_disable is ours
    assert make() == [0.1, 0.5]
    assert HIDDEN.__dynamo_disable is not ours
    assert sys.modules["torch._dynamo"] is compiler


@pytest.mark.usefixtures("unused")
def test_what_torch_has_hidden_already_stays():
    make()
    theirs = HIDDEN.__dynamo_disable
    leave_compiler_out()
    assert HIDDEN.__dynamo_disable is theirs
