import functools
import math
import queue
import random

import numpy as np
import pytest
import torch
from torch import nn

from runner.errors import RequestError
from runner.privacy.independence import batch_mixing, batch_probe
from runner.privacy.independence.mixing_check import check_examples_independent
from runner.privacy.independence.refusals import NoUsableGradSample
from runner.privacy.mechanism.random_layers import draw_by_example
from runner.training.precision.cpu_float16 import half_forward
from tests.privacy.mixing_models import (
    IN_SIXTEEN_BITS,
    MIXING,
    NOT_VECTORISED,
    SHAPE,
    STATEFUL,
    Middle,
    model_with,
    moved,
    passes_the_former_check,
)

MODES = ("functional", "hooks")
BATCHED = ("ghost", "hooks")


class Centre(nn.Module):
    def forward(self, rows):
        return rows - rows.mean(0)


class CentreInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.head = nn.Linear(64, 5)

    def forward(self, images):
        rows = self.flatten(images)
        return self.head(rows - rows.mean(0))


class ScaledInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(72, 5)

    def forward(self, images):
        hidden = self.conv(images)
        hidden += 1.0
        return self.head(hidden.flatten(1))


class OtherwiseAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 5)

    def forward(self, images):
        return self.head(images.flatten(1)) * (2.0 if len(images) == 1 else 1.0)


def mlp(*middle):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *middle, nn.ReLU(inplace=True), nn.Linear(32, 5))
    draw_by_example(model)
    return model


def check(model, mode, **changes):
    check_examples_independent(model, grad_sample=mode, image_shape=(1, 8, 8), **changes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("middle", [[], [nn.Dropout(0.5)], [nn.LayerNorm(32)], [nn.RMSNorm(32)]])
def test_a_model_that_treats_each_example_by_itself_passes(mode, middle):
    check(mlp(*middle), mode)
    check(mlp(*middle), mode, forward=lambda: torch.autocast("cpu", torch.bfloat16))


@pytest.mark.parametrize("mode", BATCHED)
def test_the_layer_that_mixes_is_named(mode):
    with pytest.raises(
        RequestError,
        match=r"model\.name: got 2 \(Centre\), which mixes the examples of a batch.*privacy\.grad_sample=functional",
    ):
        check(mlp(Centre()), mode)


@pytest.mark.parametrize("mode", BATCHED)
def test_mixing_between_layers_names_the_module_around_them(mode):
    with pytest.raises(RequestError, match="got CentreInside, which mixes"):
        check(CentreInside(), mode)
    with pytest.raises(RequestError, match=r"got 2 \(CentreInside\), which mixes"):
        check(nn.Sequential(nn.Identity(), nn.Identity(), CentreInside()), mode)


@pytest.mark.parametrize("mode", MODES)
def test_batch_normalisation_is_answered_with_group(mode):
    with pytest.raises(RequestError, match=r"model\.norm: .*expected group"):
        check(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5)), mode)


@pytest.mark.parametrize("mode", MODES)
def test_changes_in_place_between_layers_pass(mode):
    check(ScaledInPlace(), mode)


@pytest.mark.parametrize("mode", BATCHED)
def test_a_model_that_is_another_one_for_single_examples_is_refused(mode):
    with pytest.raises(RequestError, match="OtherwiseAlone, in which an example alone has another gradient"):
        check(OtherwiseAlone(), mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_model_and_the_random_state_are_left_as_they_were(mode):
    model = mlp(nn.Dropout(0.5)).eval()
    model[1].train()
    modes = [module.training for module in model.modules()]
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    check(model, mode)
    assert torch.equal(state, torch.get_rng_state())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(values[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("mode", BATCHED)
def test_a_refused_model_is_left_as_it_was(mode):
    model = mlp(Centre()).eval()
    with pytest.raises(RequestError):
        check(model, mode)
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_that_read_another_padding_are_refused():
    """Opacus takes a reflecting convolution for one that pads with zeros, and says nothing."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(128, 5))
    with pytest.raises(RequestError, match=r"hooks, whose gradients of Sequential differ from back-propagation"):
        check(model, "hooks")
    check(model, "functional")
    check(model, "ghost")


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("way", ["ghost", "hooks", "functional"])
def test_what_lets_examples_meet_is_refused_or_moves_the_clipped_sum_by_c_at_most(name, way):
    def make():
        return model_with(MIXING[name]())

    try:
        check_examples_independent(make(), grad_sample=way, image_shape=SHAPE, batch_size=16)
    except RequestError as refusal:
        remembers = isinstance(refusal, NoUsableGradSample)
        assert remembers == (name in STATEFUL)
        assert remembers or way != "functional" or name in NOT_VECTORISED
    else:
        assert way == "functional" or name == "MeetsUnderVmap", (
            "whoever is not refused has been shown to be independent"
        )
        assert moved(make, way) <= 1 + 1e-5


UNSEEN = ("CentreInTraining", "Mixup", "CentreFromThree", "CentreAfterSomeCalls", "MemoryBank", "RunningMean",
          "RunningMeanInAttribute", "AddsTheSum", "FirstBatchKept", "EvenPlaces", "FifthPlace", "FirstPlace",
          "FunctionalBatchNorm", "BranchOnMaximum", "WhereBright")  # fmt: skip


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize("way", BATCHED)
def test_the_former_check_let_them_pass_and_one_example_moved_the_sum_by_more_than_c(name, way):
    """The control."""

    def make():
        return model_with(MIXING[name]())

    assert passes_the_former_check(make(), way)
    assert moved(make, way, history=40 if name in STATEFUL else 0) > 1.1


class OtherwiseEachTime(nn.Module):
    """Counts where nobody looks."""

    def __init__(self):
        super().__init__()
        self.calls = queue.SimpleQueue()

    def forward(self, rows):
        self.calls.put(None)
        return rows * (1 + 0.01 * self.calls.qsize())


@pytest.mark.parametrize("mode", BATCHED)
def test_what_is_otherwise_at_each_call_is_not_taken_for_rounding(mode, monkeypatch):
    with pytest.raises(RequestError, match=r"2 \(OtherwiseEachTime\), which mixes"):
        check(mlp(OtherwiseEachTime()), mode)
    # the control: it moves what is measured as rounding just as far
    monkeypatch.setattr(batch_mixing, "MOST_BY_ORDER", math.inf)
    check(mlp(OtherwiseEachTime()), mode)


class Drawing(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, rows):
        return rows + self.draw(rows)


@pytest.mark.parametrize("mode", ["ghost", "hooks", "functional"])
@pytest.mark.parametrize(
    ("layer", "whose"),
    [
        (Drawing(torch.randn_like), "torch"),
        (Drawing(lambda rows: random.random()), "Python"),
        (Drawing(lambda rows: float(np.random.rand())), "numpy"),
        (nn.AlphaDropout(0.5), "torch"),
        (nn.RReLU(), "torch"),
    ],
    ids=["torch", "python", "numpy", "dropout of another kind", "random slopes"],
)
def test_a_layer_that_draws_for_all_examples_at_once_is_named(mode, layer, whose):
    kind = type(layer).__name__
    with pytest.raises(RequestError, match=rf"model\.name: got 2 \({kind}\), which draws from {whose}'s generator"):
        check(mlp(layer), mode)


class Table(nn.Module):
    """Computes something once, when it is first used."""

    table = None

    def __init__(self, of_the_batch):
        super().__init__()
        self.of_the_batch = of_the_batch

    def forward(self, rows):
        if self.table is None:
            self.table = rows.detach().mean(0) if self.of_the_batch else torch.arange(rows.shape[1]) / rows.shape[1]
        return rows + self.table


@pytest.mark.parametrize("mode", ["ghost", "hooks", "functional"])
def test_what_is_computed_once_may_stay_unless_it_depends_on_the_images(mode):
    check(mlp(Table(of_the_batch=False)), mode)
    with pytest.raises(RequestError, match=r"got the attribute table of 2 \(Table\), which the forward pass changes"):
        check(mlp(Table(of_the_batch=True)), mode)


BFLOAT16 = functools.partial(torch.autocast, "cpu", torch.bfloat16)


@pytest.mark.parametrize("kind", IN_SIXTEEN_BITS)
@pytest.mark.parametrize("mode", BATCHED)
def test_what_is_done_in_sixteen_bits_alone_is_refused(monkeypatch, mode, kind):
    def check_in_bfloat16():
        check_examples_independent(model_with(kind()), grad_sample=mode, image_shape=SHAPE, forward=BFLOAT16)

    with pytest.raises(RequestError, match=r"operations in 16 bits are others than in float32 \(from \w+ on\)"):
        check_in_bfloat16()
    # the control: nothing else sees it
    monkeypatch.setattr(batch_probe, "other_operation", lambda *_: None)
    check_in_bfloat16()


@pytest.mark.parametrize("forward", [BFLOAT16, half_forward])
@pytest.mark.parametrize("mode", BATCHED)
def test_honest_models_pass_in_sixteen_bits(mode, forward):
    for middle in (Middle(), nn.Sequential(nn.Dropout(0.3), nn.LayerNorm(16)), nn.GroupNorm(4, 16)):
        model = model_with(middle)
        draw_by_example(model)
        kept = [parameter.grad for parameter in model.parameters()]
        check_examples_independent(model, grad_sample=mode, image_shape=SHAPE, forward=forward)
        assert [parameter.grad for parameter in model.parameters()] == kept
