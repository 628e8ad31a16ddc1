"""One example moves the clipped sum of a step by at most C, whatever the model, draws, precision and way."""

import pytest
import torch

from runner.audit.sensitivity import measure_sensitivity
from runner.privacy.example_gradients.parameter import Rows
from runner.privacy.mechanism.private_rule import PrivateRule
from tests.audit.faults import draws_by_position
from tests.audit.sensitivity_cells import FEWER_ROWS, ROWS, few_cells, parts_of, sensitivities

DROPOUT = ("model=linear", "model._target_=tests.training.dropping_net.build", "data=synthetic", "data.num_train=80",
           "data.image_size=8")  # fmt: skip
DROP_PATH = ("model=timm", "model.name=resnet10t", "+model.drop_path_rate=0.5",
             "data=synthetic", "data.num_train=80", "data.image_size=8")  # fmt: skip


@pytest.fixture(autouse=True)
def _own_model(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.training.dropping_net")


@pytest.mark.parametrize(
    ("number", "cell"),
    list(enumerate(few_cells())),
    ids=lambda value: "-".join(map(str, value)).replace(" ", "_") if isinstance(value, tuple) else "",
)
def test_one_example_moves_the_clipped_sum_by_at_most_c(number, cell):
    found = sensitivities(*cell, numbers=[1 + number % 2])
    if isinstance(found, str):
        assert cell[1] != "functional", found
        return
    assert all(one.holds for one in found), found
    # each example was clipped, so that a sum that moves less has lost something
    assert all(one.moved >= 2 - one.allowed for one in found), found


@pytest.mark.parametrize(
    ("recipe", "way"),
    [(DROPOUT, "ghost"), (DROPOUT, "hooks"), (DROP_PATH, "functional")],
    ids=["dropout-ghost", "dropout-hooks", "drop-path-functional"],
)
def test_layers_that_draw_leave_the_others_alone(recipe, way):
    _, parts = parts_of(f"privacy.grad_sample={way}", *recipe)
    assert all(one.holds for one in measure_sensitivity(parts, 1, FEWER_ROWS, places=[0, 2]))


@pytest.mark.parametrize(
    "recipe", [("data.augment.crop_padding=1",), DROPOUT, DROP_PATH], ids=["crops", "dropout", "drop-path"]
)
def test_draws_by_position_would_have_been_seen(recipe, monkeypatch):
    draws_by_position(monkeypatch)
    _, parts = parts_of("privacy.grad_sample=ghost", *recipe)
    found = measure_sensitivity(parts, 1, FEWER_ROWS)
    assert not any(one.holds for one in found[:2])
    # nobody comes after the last one
    assert found[-1].holds


def test_two_processes_share_the_batch_that_one_would_have_had():
    _, parts = parts_of("data.augment.crop_padding=1", "precision=fp64")
    one, two = (measure_sensitivity(parts, 1, ROWS, places=[3], processes=count)[0] for count in (1, 2))
    assert abs(one.moved - two.moved) < 1e-12
    assert (one.place, one.row) == (3, int(ROWS[3]))


def test_an_example_that_counts_twice_is_seen(monkeypatch):
    plain = PrivateRule.add

    def twice(self, images, labels):
        plain(self, images[:1], labels[:1])
        return plain(self, images, labels)

    monkeypatch.setattr(PrivateRule, "add", twice)
    _, parts = parts_of("data.batch_size=16")
    assert not measure_sensitivity(parts, 1, ROWS, places=[0])[0].holds


def test_the_first_of_one_is_its_whole_batch():
    _, parts = parts_of()
    (found,) = measure_sensitivity(parts, 1, torch.tensor([7]))
    assert found.holds
    assert found.moved == pytest.approx(1.0, abs=1e-5)


def test_a_norm_of_millions_of_numbers_is_right():
    rows = torch.rand(2, 1500, 1500, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.vector_norm(rows.double(), dim=(1, 2))
    assert ((Rows(rows).norms() - exact) / exact).abs().max() < 2e-6
