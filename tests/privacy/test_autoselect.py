import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.config.choice import Choice
from runner.data.open import open_data
from runner.errors import RequestError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.privacy.example_gradients import autoselect as module
from runner.privacy.example_gradients.autoselect import autoselect_grad_sample, working_grad_samples
from runner.privacy.mechanism.random_layers import draw_by_example
from runner.training.distributed.world import SingleProcess
from runner.training.parts import build_parts

SHAPE = (1, 8, 8)


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


class Scaled(nn.Module):
    """A parameter around a layer, which ghost has no rule for and hooks do not see."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.inner = nn.Linear(64, 5)

    def forward(self, images):
        return self.inner(images.flatten(1)) * self.scale


def dense():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.Tanh(), nn.Dropout(), nn.Linear(256, 5))
    draw_by_example(model)
    return model


def choose(model, ways, *, measure=True, batch_size=16):
    return autoselect_grad_sample(
        model,
        ways,
        image_shape=SHAPE,
        batch_size=batch_size,
        loss=loss,
        forward=contextlib.nullcontext,
        channels_last=True,
        measure=measure,
    )


def ways(model):
    return working_grad_samples(model, image_shape=SHAPE, forward=contextlib.nullcontext, batch_size=16)


def test_only_ways_that_work_are_tried():
    assert ways(dense()) == ["ghost", "functional"]
    assert "ghost" not in ways(Scaled())


def test_where_examples_meet_in_a_batch_they_are_taken_one_at_a_time():
    class Mixing(nn.Linear):
        def forward(self, images):
            return super().forward(images.flatten(1)) + images.mean(0).flatten()[:5]

    assert ways(Mixing(64, 5)) == ["functional"]


def test_a_model_that_functional_cannot_take_is_refused_because_its_examples_meet():
    class Mixing(nn.Linear):
        def forward(self, images):
            return super().forward(images.flatten(1)) + (images.mean() if images.max() > 0 else 0)

    with pytest.raises(RequestError, match=r"model\.name: got Mixing, which reads numbers out of the batch"):
        ways(Mixing(64, 5))


def test_a_model_that_remembers_is_refused_in_every_way():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, images):
            self.calls += 1
            return super().forward(images.flatten(1))

    with pytest.raises(RequestError, match=r"model\.name: got the attribute calls of Counting, which the forward pass"):
        ways(Counting(64, 5))


def test_the_measured_times_are_the_reason():
    way = choose(dense(), ["ghost", "functional"])
    assert way.value in ("ghost", "functional")
    assert way.source == "measurement"
    assert way.reason.startswith("ghost ")
    assert "functional" in way.reason
    assert way.reason.endswith("ms for 16 random images")


@pytest.mark.parametrize(("functional", "expected"), [(0.9, "ghost"), (0.5, "functional"), (2.0, "ghost")])
def test_more_memory_has_to_be_clearly_faster(monkeypatch, functional, expected):
    monkeypatch.setattr(module, "_measure", lambda *arguments: {"ghost": 1.0, "functional": functional})
    assert choose(dense(), ["ghost", "functional"]).value == expected


def test_nothing_is_measured_where_it_must_not_decide_or_would_not_fit(monkeypatch):
    monkeypatch.delattr(module, "_measure")
    assert choose(dense(), ["functional"]) == Choice("functional", "rule", "the only way that works for this model")
    assert choose(dense(), ["ghost", "functional"], measure=False).value == "ghost"
    assert choose(dense(), ["ghost", "functional"], batch_size=1 << 16).value == "ghost"


def test_measuring_leaves_model_and_random_state_as_they_were():
    model = dense()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    choose(model, ["ghost", "functional"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("before", ["functional", "ghost"])
def test_a_resumed_run_keeps_the_way_that_was_chosen(configure, monkeypatch, before):
    config = configure("trainer=dp", "data.limit=40", "data.batch_size=10", "model=mlp", "trainer.steps=2",
                       "hardware=cpu", "hardware.threads=1")  # fmt: skip
    data = open_data(config.data)
    plan = build_plan(config, data, detect_device(config.hardware), processes=1)
    assert plan.performance.grad_sample == "auto"
    # another way rounds differently, so that nothing may be measured again
    monkeypatch.delattr(module, "_measure")
    resumed = build_parts(plan, data, SingleProcess(torch.device("cpu")), grad_sample=before).plan.performance
    assert (resumed.grad_sample, resumed.grad_sample_reason) == (before, "as before the interruption")
    with pytest.raises(NameError):
        build_parts(plan, data, SingleProcess(torch.device("cpu")))
