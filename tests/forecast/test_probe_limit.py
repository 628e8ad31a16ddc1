"""What is measured before a run, or for its plan, keeps to ``hardware.probe_seconds``, and says what that cost."""

import contextlib
import dataclasses

import pytest
import torch.nn.functional as F

from runner.autotune import batch_size as fitting_batch
from runner.autotune.precision import fastest_candidate, open_candidates
from runner.autotune.resolve import resolve_precision
from runner.config.rules.batches import affordable
from runner.data.open import open_data
from runner.forecast import probed_costs
from runner.forecast.assess import assess
from runner.forecast.describe import describe
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.privacy.example_gradients.autoselect import autoselect_grad_sample
from runner.training.distributed.world import SingleProcess, torch_device
from tests.faults import slow

RECIPE = (
    "hardware=cpu", "hardware.threads=1", "data=synthetic", "data.num_train=256", "data.num_val=64",
    "data.image_size=16", "data.batch_size=16", "trainer.accumulation_steps=8", "model=linear", "trainer.epochs=4",
    "tracker=none",
)  # fmt: skip
IMAGE = 0.0005
"""Seconds that the slow network takes for one, forward."""


@pytest.fixture
def slow_config(configure, monkeypatch):
    """slow_config("key=value", ...) is of the slow network; what it sees is counted from then on."""
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.faults")

    def slow_config(*overrides):
        config = configure(*RECIPE, *overrides)
        config.model.target, config.model.options = "tests.faults.slow.build", {"seconds": IMAGE}
        slow.seen.clear()
        return config

    return slow_config


def planned(config):
    device = detect_device(config.hardware)
    return build_plan(config, open_data(config.data), device, processes=1), device


@pytest.mark.parametrize("guarded", [True, False])
def test_a_plan_of_slow_updates_times_smaller_ones_and_widens_its_ranges(slow_config, monkeypatch, guarded):
    if not guarded:
        monkeypatch.setattr(probed_costs, "_shortened", lambda plan, image_seconds: plan)
    # half of that is the time of 240 images, and four updates have 512
    assessment = assess(slow_config("hardware.probe_seconds=0.24"), probe=True)
    costs, expected = assessment.costs, assessment.forecast.seconds.expected
    assert max(slow.seen) <= 64
    assert (costs.images_timed is not None) == guarded
    width = assessment.forecast.seconds.high / expected
    told = describe(assessment)[-1]
    if guarded:
        assert 4 <= costs.images_timed <= 48
        # eight updates, of which an image more takes at least a quarter of the mean
        assert expected > 8 * 128 * IMAGE / 4
        assert width >= 2
        assert f"updates of {costs.images_timed} images in place of 128" in told
        assert "hardware.probe_seconds=0.24" in told
    else:
        assert "in place of" not in told


def test_a_quick_plan_is_measured_whole(slow_config):
    assessment = assess(slow_config("hardware.probe_seconds=60", "data.batch_size=4"), probe=True)
    assert assessment.costs.images_timed is None
    assert "in place of" not in describe(assessment)[-1]


def test_which_updates_are_timed(configure):
    plan, _ = planned(configure(*RECIPE, "trainer=dp"))
    assert probed_costs._shortened(plan, 0.0) is plan
    assert probed_costs._shortened(plan, 0.5 * 20 / 4 / 128) is plan
    for seconds, batch, accumulation in ((0.05, 16, 3), (0.1, 16, 1), (0.25, 10, 1), (60.0, 4, 1)):
        short = probed_costs._shortened(plan, seconds)
        assert (short.performance.batch_size, short.performance.accumulation_steps) == (batch, accumulation)
        assert short.semantic.logical_batch == batch * accumulation
        rates = short.semantic.privacy.sample_rate, plan.semantic.privacy.sample_rate
        assert rates[0] / rates[1] == pytest.approx(batch * accumulation / 128)


def test_a_way_to_gradients_is_chosen_on_as_many_images_as_there_is_time_for():
    def chosen(most_seconds):
        slow.seen.clear()
        return autoselect_grad_sample(
            slow.build(in_channels=1, num_classes=5, image_size=8, seconds=IMAGE),
            ["ghost", "functional"],
            image_shape=(1, 8, 8),
            batch_size=64,
            loss=lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"),
            forward=contextlib.nullcontext,
            channels_last=False,
            measure=True,
            most_seconds=most_seconds,
        ).reason

    assert chosen(60.0).endswith("for 64 random images")
    assert max(slow.seen) == 64
    assert "random images, of a micro-batch of 64: hardware.probe_seconds" in chosen(0.05)
    assert max(slow.seen) < 64


def test_a_precision_that_would_take_too_long_to_measure_is_not_measured(slow_config):
    config = slow_config("precision=auto", "hardware.probe_seconds=0.001")
    plan, device = planned(config)
    assert fastest_candidate(plan, open_candidates(device, None), memory_bytes=1 << 40) is None
    told = resolve_precision(plan, config, device, SingleProcess(torch_device("cpu"))).semantic.precision
    assert told.dtype == "float32"
    assert told.reason.startswith("too large to measure within hardware.probe_seconds")
    patient = dataclasses.replace(plan, performance=dataclasses.replace(plan.performance, probe_seconds=60.0))
    assert fastest_candidate(patient, open_candidates(device, None), memory_bytes=1 << 40) is not None


def test_batches_for_which_there_is_no_time_are_left_out_and_named(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(fitting_batch.time, "perf_counter", lambda: now[0])
    limit = fitting_batch._TimeLimit(20.0)
    tried = []
    for size in (1, 2, 4, 8, 16):
        if limit.leaves_time_for(size):
            tried.append(size)
            now[0] += 1.8 + 0.8 * size
            limit.took(size)
    # 2.6, 3.4, 5.0 and 8.2 s; 14.6 s more would be 33.8
    assert tried == [1, 2, 4, 8]
    assert limit.figures == "; hardware.probe_seconds=20 left no time for 16 and more"
    assert fitting_batch._TimeLimit(20.0).figures == ""


def test_what_can_be_afforded():
    assert affordable(64, seconds_each=0.0, seconds=1.0) == 64
    assert affordable(64, seconds_each=0.1, seconds=1.0) == 10
    assert affordable(64, seconds_each=5.0, seconds=1.0, least=4) == 4
    assert affordable(2, seconds_each=0.1, seconds=1.0, least=1) == 2
