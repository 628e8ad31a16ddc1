"""Schedules against torch's own schedulers, their edges, and what they refuse."""

import math
import subprocess
import sys
import warnings

import pytest
import torch

from runner.config.schema import SchedulerConfig
from runner.errors import RequestError
from runner.optim.schedules import build_schedule

SCHEDULERS = torch.optim.lr_scheduler


def build(name, steps=40, steps_per_epoch=8.0, *, warmup_epochs=0.0, warmup_start=0.0, **options):
    config = SchedulerConfig(
        target=f"runner.optim.schedules.{name}",
        name=name.lower(),
        warmup_epochs=warmup_epochs,
        warmup_start=warmup_start,
        options=options,
    )
    return build_schedule(config, steps=steps, steps_per_epoch=steps_per_epoch)


def torch_factors(make, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("Constant", {}, lambda o: SCHEDULERS.ConstantLR(o, factor=1.0)),
        ("Cosine", {}, lambda o: SCHEDULERS.CosineAnnealingLR(o, T_max=40)),
        ("Cosine", {"final_factor": 0.1}, lambda o: SCHEDULERS.CosineAnnealingLR(o, T_max=40, eta_min=0.1)),
        ("Linear", {}, lambda o: SCHEDULERS.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=40)),
        ("Linear", {"final_factor": 0.3}, lambda o: SCHEDULERS.LinearLR(o, 1.0, 0.3, total_iters=40)),
        ("Exponential", {"gamma": 0.7}, lambda o: SCHEDULERS.ExponentialLR(o, gamma=0.7 ** (1 / 8))),
        ("Step", {"step_epochs": 2, "gamma": 0.5}, lambda o: SCHEDULERS.StepLR(o, step_size=16, gamma=0.5)),
    ],
)
def test_equals_torch(name, options, make):
    schedule = build(name, **options)
    assert [schedule.factor(t) for t in range(40)] == pytest.approx(torch_factors(make, 40), abs=1e-12)


def test_warm_up_then_decay_equals_torch_in_sequence():
    schedule = build("Cosine", warmup_epochs=1.0, warmup_start=0.2)

    def make(optimizer):
        rise = SCHEDULERS.LinearLR(optimizer, start_factor=0.2 + 0.8 / 8, end_factor=1.0, total_iters=7)
        fall = SCHEDULERS.CosineAnnealingLR(optimizer, T_max=32)
        return SCHEDULERS.SequentialLR(optimizer, [rise, fall], milestones=[8])

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step", category=UserWarning)
        expected = torch_factors(make, 40)
    assert [schedule.factor(t) for t in range(40)] == pytest.approx(expected, abs=1e-12)


def test_warm_up_moves_from_the_first_update_and_reaches_the_peak():
    schedule = build("Constant", warmup_epochs=0.5)
    assert [schedule.factor(t) for t in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["Constant", "Linear", "Cosine", "Exponential", "Step"])
def test_is_a_pure_function_of_the_step(name):
    schedule = build(name, warmup_epochs=1.0)
    forwards = [schedule.factor(t) for t in range(40)]
    assert [schedule.factor(t) for t in reversed(range(40))] == forwards[::-1]
    schedule.observe(0.5, "higher")
    schedule.load_state_dict(schedule.state_dict())
    assert [schedule.factor(t) for t in range(40)] == forwards


def test_last_update_still_moves_the_weights():
    assert build("Cosine").factor(39) == pytest.approx(0.5 * (1 + math.cos(math.pi * 39 / 40)))
    assert build("Linear").factor(39) == pytest.approx(1 / 40)


def test_step_falls_on_whole_epochs_of_a_fractional_length():
    # 3 * 22.1 is above 66.3 in binary: without an allowance the tenth drop would come one update late.
    schedule = build("Step", steps=1000, steps_per_epoch=22.1, step_epochs=3, gamma=0.5)
    assert [schedule.factor(t) for t in (66, 67, 662, 663)] == [1.0, 0.5, 0.5**9, 0.5**10]


@pytest.mark.parametrize(("better", "mode"), [("higher", "max"), ("lower", "min")])
def test_plateau_equals_torch(better, mode):
    generator = torch.Generator().manual_seed(0)
    metrics = (torch.rand(60, generator=generator) + torch.linspace(0, 0.3, 60)).tolist()
    schedule = build("Plateau", factor=0.5, patience=2, threshold=0.05, min_factor=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = SCHEDULERS.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.5, patience=2, threshold=0.05, min_lr=0.1, eps=0.0
    )
    seen = []
    for metric in metrics:
        schedule.observe(metric, better)
        reference.step(metric)
        seen.append(schedule.factor(0))
        assert seen[-1] == pytest.approx(optimizer.param_groups[0]["lr"])
    assert seen[0] == 1.0
    assert seen[-1] == pytest.approx(0.1)


def test_plateau_resumes_where_it_was():
    whole, before, after = (build("Plateau", patience=1, warmup_epochs=1.0) for _ in range(3))
    metrics = [0.5, 0.6, math.nan, 0.4, 0.5, 0.3, 0.7, 0.7, 0.7]
    for metric in metrics:
        whole.observe(metric, "higher")
    for metric in metrics[:4]:
        before.observe(metric, "higher")
    after.load_state_dict(before.state_dict())
    for metric in metrics[4:]:
        after.observe(metric, "higher")
    assert after.state_dict() == whole.state_dict()
    assert after.factor(20) == whole.factor(20) < 1.0


@pytest.mark.parametrize(("better", "later"), [("higher", [0.1, 0.2]), ("lower", [0.2, 0.1])])
@pytest.mark.parametrize("first", [math.nan, math.inf, -math.inf])
def test_plateau_takes_no_result_that_is_not_finite_for_the_best(better, later, first):
    schedule = build("Plateau", factor=0.5, patience=1)
    for metric in (first, *later):
        schedule.observe(metric, better)
    assert schedule.state_dict() == {"current": 1.0, "best": later[-1], "stale": 0}
    for metric in (math.nan, math.inf if better == "higher" else -math.inf):
        schedule.observe(metric, better)
    assert schedule.state_dict() == {"current": 0.5, "best": later[-1], "stale": 0}


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("Cosine", {"final_factor": 1.5}, "scheduler.final_factor"),
        ("Linear", {"final_factor": -0.1}, "scheduler.final_factor"),
        ("Exponential", {"gamma": 0.0}, "scheduler.gamma"),
        ("Step", {"gamma": 1.1}, "scheduler.gamma"),
        ("Step", {"step_epochs": 0}, "scheduler.step_epochs"),
        ("Plateau", {"factor": 1.0}, "scheduler.factor"),
        ("Plateau", {"patience": -1}, "scheduler.patience"),
        ("Plateau", {"patience": 2.5}, "scheduler.patience"),
        ("Plateau", {"threshold": 2.0}, "scheduler.threshold"),
        ("Plateau", {"min_factor": -1.0}, "scheduler.min_factor"),
        ("Cosine", {"warmup_start": 1.5}, "scheduler.warmup_start"),
        ("Cosine", {"warmup_epochs": -1.0}, "scheduler.warmup_epochs"),
        ("Cosine", {"warmup_epochs": 5.2}, "scheduler.warmup_epochs"),
        ("Cosinus", {}, "scheduler._target_"),
        ("math", {}, "scheduler._target_"),
    ],
)
def test_refuses(name, settings, key):
    with pytest.raises(RequestError) as error:
        build(name, **settings)
    assert error.value.key == key


def test_a_wrong_option_names_the_nearest():
    with pytest.raises(RequestError) as error:
        build("Cosine", final_facter=0.1)
    assert (error.value.key, error.value.nearest) == ("scheduler.final_facter", "final_factor")


def test_a_run_of_nothing_but_warm_up():
    schedule = build("Cosine", steps=16, warmup_epochs=2.0)
    assert schedule.factor(15) == 1.0


def test_does_not_import_torch():
    code = "import sys, runner.optim.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
