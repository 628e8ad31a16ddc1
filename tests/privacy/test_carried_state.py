"""What a model could carry from one pass to the next is seen, wherever it is kept."""

import array
import io
import itertools
import random
from collections import Counter, UserList, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from runner.privacy.independence.carried_state import CarriedState
from runner.privacy.mechanism.random_layers import draw_by_example, drawing
from tests.privacy import late_meeting


class Plain:
    __slots__ = ("value",)

    def __init__(self):
        self.value = [torch.zeros(2)]


class OfNoModule:
    """A plain class that the code of a module names."""

    value = 0


NAMED = [0]


class Keeping(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("average", torch.zeros(2))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.register_buffer("count", torch.tensor(0))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.number = 0
        self.tensor = torch.zeros(2)
        self.array = np.zeros(2)
        self.nested = {"list": [deque([(1, {2})])]}
        self.other = Plain()
        self.space = SimpleNamespace(value=0)
        self.counter = Counter()
        self.iterator = itertools.count()
        self.cycle = itertools.cycle([1, 2])
        self.of_list = iter([1, 2])
        self.user_list = UserList()
        self.numbers = array.array("d", [0.0])
        self.file = io.BytesIO()
        self.generator = (number for number in range(10))
        self.random = random.Random(0)
        self.of_numpy = np.random.default_rng(0)
        self.of_torch = torch.Generator()
        self.unregistered = [nn.BatchNorm1d(2)]
        held = [0]
        self.closed = lambda: held.__setitem__(0, held[0] + 1)

    def remember(self, default=[0]):  # noqa: B006
        default[0] += 1

    def names(self):
        return OfNoModule.value, late_meeting.LATE, [NAMED[number] for number in range(1)]


def _in_place(name):
    def change(model):
        getattr(model, name).data.add_(1)

    return change


CHANGES = {
    "the buffer average": _in_place("average"),
    "the buffer hidden": _in_place("hidden"),
    "the buffer count": _in_place("count"),
    "the parameter frozen": _in_place("frozen"),
    "the parameter weight of 0.inner": lambda model: model.inner.weight.data.mul_(2),
    "the attribute number": lambda model: setattr(model, "number", 1),
    "the attribute new": lambda model: setattr(model, "new", torch.zeros(1)),
    "the attribute weight.stash of 0.inner": lambda model: setattr(model.inner.weight, "stash", 1),
    "the attribute tensor": _in_place("tensor"),
    "the attribute array": lambda model: model.array.__iadd__(1),
    "the attribute nested": lambda model: model.nested["list"][0][0][1].add(3),
    "the attribute other.value": lambda model: model.other.value[0].add_(1),
    "the attribute space": lambda model: setattr(model.space, "value", 1),
    "the attribute counter": lambda model: model.counter.update("a"),
    "the attribute iterator": lambda model: next(model.iterator),
    "the attribute cycle": lambda model: next(model.cycle),
    "the attribute of_list": lambda model: next(model.of_list),
    "the attribute user_list": lambda model: model.user_list.append(1),
    "the attribute numbers": lambda model: model.numbers.__setitem__(0, 1.0),
    "the attribute file": lambda model: model.file.write(b"1"),
    "the class attribute names (the global OfNoModule).value": lambda model: setattr(OfNoModule, "value", 1),
    "the class attribute names (the global late_meeting.LATE)": lambda model: setattr(late_meeting, "LATE", 61),
    "the class attribute names (the global NAMED)": lambda model: NAMED.__setitem__(0, 1),
    "the attribute generator": lambda model: next(model.generator),
    "the attribute random": lambda model: model.random.random(),
    "the attribute of_numpy": lambda model: model.of_numpy.random(),
    "the attribute of_torch": lambda model: torch.rand(1, generator=model.of_torch),
    "the attribute unregistered": lambda model: model.unregistered[0](torch.randn(3, 2)),
    "the attribute closed": lambda model: model.closed(),
    "the class attribute remember": lambda model: model.remember(),
}


@pytest.mark.parametrize("place", CHANGES)
def test_a_change_is_named(place, monkeypatch):
    # what is changed beside the model is put back
    for owner, name in ((OfNoModule, "value"), (late_meeting, "LATE")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    model = nn.Sequential(Keeping())
    before = CarriedState(model)
    assert before.changed() is None
    CHANGES[place](model[0])
    assert before.changed().startswith(place)
    assert before.changed().count("of 0") == 1


def test_what_an_optimizer_changes_can_be_left_out():
    model = nn.Sequential(Keeping())
    before = CarriedState(model, trained=False)
    model[0].inner.weight.data.mul_(2)
    assert before.changed() is None
    model[0].frozen.data.mul_(2)
    assert before.changed() == "the parameter frozen of 0 (Keeping)"


def test_training_mode_hooks_and_draws_are_nothing_to_carry():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    draw_by_example(model)
    before = CarriedState(model)
    model.eval()
    handle = model[0].register_forward_hook(lambda *arguments: None)
    with drawing(model, 3):
        model.train()(torch.ones(3, 2))
        assert before.changed() is None
    handle.remove()


def test_the_same_build_has_the_same_state():
    torch.manual_seed(0)
    one = nn.Linear(2, 2)
    torch.manual_seed(0)
    other = nn.Linear(2, 2)
    assert CarriedState(one).differs_from(CarriedState(other)) is None
    other.bias.data.add_(1)
    assert CarriedState(one).differs_from(CarriedState(other)) == "the parameter bias of Linear"
