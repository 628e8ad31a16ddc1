"""What a user's optimizer decides is kept, used where it should be, and refused early where it cannot be saved."""

import json

import pytest
import torch

from runner.errors import RequestError, RunError
from runner.execution.job import run_job
from runner.models.build import build_network
from runner.optim.modes import has_modes
from runner.optim.optimizer import build_optimizer
from runner.training import eval_weights as eval_weights
from runner.training import parts
from runner.training.checkpointing import optimizer_attributes, plain_state
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.checkpointing.plain_state import refuse_unholdable
from runner.training.step import TrainStep
from tests.training import own_optimizers

RECIPE = ("tracker=none", "data.limit=64", "data.batch_size=16", "model=mlp", "trainer.epochs=3",
          "trainer.save_every=1", "hardware=cpu", "hardware.threads=1")  # fmt: skip


@pytest.fixture
def run(configure, tmp_path, monkeypatch):
    """run("ByLayer", "key=value", ..., folder="a") trains with the optimizer of that name; its folder."""
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests")

    def run(name, *overrides, folder="run", **options):
        config = configure(*RECIPE, *overrides)
        config.optimizer.target = f"tests.training.own_optimizers.{name}"
        config.optimizer.name, config.optimizer.options = name, options
        if name == "ScheduleFree":
            config.optimizer.weight_decay = 0.0
        (tmp_path / folder).mkdir(exist_ok=True)
        run_job(config, {}, tmp_path / folder, None)
        return tmp_path / folder

    return run


@pytest.fixture
def stopped_in_epoch_2(monkeypatch):
    """Runs inside end with an error in their seventh step, after the save of their first epoch."""

    def stop(once):
        right = TrainStep.run

        def step(self, step, *, stop=False):
            if step == 6:
                raise RunError("stopped")
            return right(self, step, stop=stop)

        with monkeypatch.context() as patch:
            patch.setattr(TrainStep, "run", step)
            with pytest.raises(RunError, match="stopped"):
                once()

    return stop


def last(folder):
    return load_checkpoint(folder / "checkpoints" / "last")


def accuracy(folder):
    return json.loads((folder / "run.json").read_text())["metrics"]["test_accuracy"]


def test_each_group_keeps_the_rate_and_the_decay_that_its_class_gave_it(run, stopped_in_epoch_2):
    whole = last(run("ByLayer", "optimizer.lr=0.2", "optimizer.weight_decay=0.01"))
    slow, fast = whole.state["optimizer"]["param_groups"]
    # cosine: (1 + cos(pi 11 / 12)) / 2 of the peak at the last of 12 updates
    assert fast["lr"] == pytest.approx(0.2 * 0.0170370869, rel=1e-8)
    assert slow["lr"] == pytest.approx(fast["lr"] / 10, rel=1e-12)
    assert (slow["weight_decay"], fast["weight_decay"]) == (0.0, 0.01)
    parts_of = ("ByLayer", "optimizer.lr=0.2", "optimizer.weight_decay=0.01")
    stopped_in_epoch_2(lambda: run(*parts_of, folder="again"))
    resumed = last(run(*parts_of, folder="again"))
    torch.testing.assert_close(resumed.weights, whole.weights, rtol=0, atol=0)
    assert resumed.state["optimizer"]["param_groups"] == [slow, fast]


def test_one_rate_for_all_groups_trains_otherwise(run, monkeypatch):
    """What the step did before: the configured rate in every group."""
    kept = last(run("ByLayer", folder="kept")).weights

    def overwrite(self, step):
        factor = self.schedule.factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.semantic.optimizer.lr * factor
        return factor

    monkeypatch.setattr(parts.Parts, "set_rates", overwrite)
    overwritten = last(run("ByLayer", folder="overwritten")).weights
    assert not any(torch.equal(kept[name], overwritten[name]) for name in kept)


def accuracy_of(weights, configure):
    from runner.data.open import open_data

    config = configure(*RECIPE)
    data = open_data(config.data)
    model = build_network(config.model, channels=1, num_classes=10, image_size=8, norm="batch").eval()
    pixels = torch.from_numpy(data.test.images[data.test.rows]).permute(0, 3, 1, 2) / 255
    model.load_state_dict(weights)
    with torch.no_grad():
        answers = model((pixels - data.mean[0]) / data.std[0]).argmax(1)
    return (answers == torch.from_numpy(data.test.labels)).double().mean().item()


def test_what_the_optimizer_evaluates_is_tested_saved_and_exported(run, configure):
    folder = run("ScheduleFree", "optimizer.lr=5", "data.limit=256", "trainer.test_checkpoint=last")
    saved = last(folder)
    raw, state = saved.state["raw_weights"], saved.state["optimizer"]["state"]
    assert saved.state["optimizer"]["param_groups"][0]["train_mode"] is True
    for index, (name, y) in enumerate(raw.items()):
        # y = 0.9 x + 0.1 z (equation 3)
        torch.testing.assert_close(0.9 * saved.weights[name] + 0.1 * state[index]["z"], y, rtol=1e-5, atol=1e-6)
        assert not torch.equal(saved.weights[name], y)
    assert accuracy(folder) == pytest.approx(
        accuracy_of(saved.weights, lambda *r: configure(*r, "data.limit=256")), abs=1e-9
    )


def test_evaluation_leaves_training_its_bits_and_a_resumed_run_has_them(run, stopped_in_epoch_2):
    often = last(run("ScheduleFree", folder="often"))
    seldom = last(run("ScheduleFree", "trainer.eval_every=3", "trainer.save_every=3", folder="seldom"))
    stopped_in_epoch_2(lambda: run("ScheduleFree", folder="stopped"))
    resumed = last(run("ScheduleFree", folder="stopped"))
    for other in (seldom, resumed):
        torch.testing.assert_close(other.state["raw_weights"], often.state["raw_weights"], rtol=0, atol=0)
        torch.testing.assert_close(other.weights, often.weights, rtol=0, atol=0)


def test_without_its_modes_the_wrong_weights_are_saved(run, monkeypatch):
    right = last(run("ScheduleFree", folder="right"))
    monkeypatch.setattr(eval_weights, "has_modes", lambda optimizer: False)
    wrong = last(run("ScheduleFree", folder="wrong"))
    assert all(torch.equal(wrong.weights[name], raw) for name, raw in right.state["raw_weights"].items())


def test_two_averages_are_refused(run):
    with pytest.raises(RequestError, match=r"trainer\.ema_decay: got 0\.9, expected null with optimizer=ScheduleFree"):
        run("ScheduleFree", "trainer.ema_decay=0.9")


def test_one_with_eval_alone_is_refused(configure, monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests")
    config = configure("optimizer.weight_decay=0").optimizer
    config.target, config.options = "tests.training.own_optimizers.EvalAlone", {}
    with pytest.raises(
        RequestError, match=r"EvalAlone, which has eval\(\) and no train\(\), expected an optimizer with"
    ):
        build_optimizer(config, torch.nn.Linear(2, 2), fused=None)
    monkeypatch.setattr("runner.optim.optimizer.lacking_mode", lambda optimizer: None)
    assert not has_modes(
        build_optimizer(config, torch.nn.Linear(2, 2), fused=None)
    )  # and so it would be tested as it is


def test_an_optimizer_that_calls_the_loss_again_is_refused(configure):
    config = configure("optimizer.weight_decay=0").optimizer
    config.target, config.name, config.options = "torch.optim.LBFGS", "lbfgs", {}
    with pytest.raises(RequestError, match=r"optimizer\._target_: got torch\.optim\.LBFGS, whose step needs a closure"):
        build_optimizer(config, torch.nn.Linear(2, 2), fused=None)


def test_state_that_no_checkpoint_holds_is_told_after_the_first_update(run, tmp_path):
    with pytest.raises(RunError) as error:
        run("WithObjects")
    assert "no checkpoint can hold state.0.preconditioner in the state of optimizer=WithObjects" in str(error.value)
    assert "tests.training.own_optimizers.Preconditioner" in str(error.value)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert not list((tmp_path / "run").glob("checkpoints/step_*"))


def test_without_the_check_the_run_ends_with_a_checkpoint_that_cannot_be_read(run, monkeypatch):
    monkeypatch.setattr(plain_state, "_unholdable", lambda state: None)
    folder = run("WithObjects", "trainer.test_checkpoint=last")
    with pytest.raises(RunError, match="holds something other than tensors and plain values"):
        last(folder)


@pytest.mark.parametrize("name", ["CountsInList", "CountsInTensor"])
def test_what_changes_beside_the_state_is_told_after_the_first_update(run, name):
    with pytest.raises(RunError, match=f"no checkpoint can hold calls of optimizer={name}: updates change it"):
        run(name)


@pytest.mark.parametrize("name", ["CountsPlainly", "GivesItsCount"])
def test_what_is_plain_or_given_beside_the_state_is_resumed(run, stopped_in_epoch_2, name):
    whole = last(run(name, folder="whole"))
    stopped_in_epoch_2(lambda: run(name, folder="again"))
    torch.testing.assert_close(last(run(name, folder="again")).weights, whole.weights, rtol=0, atol=0)


def test_without_the_attributes_a_resumed_run_computes_something_else(run, stopped_in_epoch_2, monkeypatch):
    monkeypatch.setattr(optimizer_attributes, "_PLAIN", ())
    monkeypatch.setattr(optimizer_attributes.AttributesBefore, "refuse_lost", lambda self, name: None)
    whole = last(run("CountsPlainly", folder="whole"))
    stopped_in_epoch_2(lambda: run("CountsPlainly", folder="again"))
    resumed = last(run("CountsPlainly", folder="again"))
    assert not all(torch.equal(resumed.weights[name], weights) for name, weights in whole.weights.items())


def test_extra_state_of_a_model_is_told(run, monkeypatch):
    monkeypatch.setattr(torch.nn.Linear, "get_extra_state", lambda self: {"calls": 3})
    with pytest.raises(RunError) as error:
        run("ByLayer")
    assert "_extra_state in the state of model=mlp: it is a dict" in str(error.value)


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": [1, {"b": own_optimizers.Preconditioner()}]}, "a[1].b in the state"),
        ({"a": own_optimizers.ByLayer}, "a in the state"),
        ({"f": len}, "f in the state"),
        ({own_optimizers.Preconditioner: 1}, "in the state"),
        (own_optimizers.Preconditioner(), "the state of it"),
    ],
)
def test_the_place_of_what_cannot_be_held(state, place):
    with pytest.raises(RunError) as error:
        refuse_unholdable("it", state)
    assert f"no checkpoint can hold {place}" in str(error.value) or place in str(error.value)
    assert "\n" not in str(error.value)


def test_what_can_be_held():
    from collections import OrderedDict

    tensor = torch.ones(2)
    refuse_unholdable(
        "it",
        {
            "plain": [1, 2.0, "a", b"b", None, True, (1, 2), 1j],
            0: OrderedDict(a=tensor, b=torch.nn.Parameter(tensor)),
            "others": [
                torch.Size([1]),
                torch.float32,
                torch.device("cpu"),
                tensor.to_sparse(),
                {1, 2},
            ],
        },
    )


def test_tied_weights_are_saved_once_for_each_name():
    """Two names of one tensor: safetensors refuses them as they are."""
    from types import SimpleNamespace

    layer = torch.nn.Linear(2, 2)
    model = torch.nn.Sequential(layer, layer)
    weights, _ = eval_weights.weights_to_save(SimpleNamespace(model=model, average=None, optimizer=None))
    assert torch.equal(weights["0.weight"], weights["1.weight"])
    assert weights["0.weight"].data_ptr() != weights["1.weight"].data_ptr()
