"""Where the time of a step goes: timed in every run, profiled on request, and never a change of what is computed."""

import gzip
import json

import pytest
import torch

from runner.records.step_time import PHASES
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.profiling.phase_timer import PhaseTimer

RECIPE = ("data.limit=128", "data.batch_size=16", "model=small_cnn", "trainer.epochs=3", "hardware.threads=1")


def step_time(run_dir):
    return json.loads((run_dir / "run.json").read_text())["step_time"]


def bits(run_dir):
    return {
        name: value.numpy().tobytes() for name, value in load_checkpoint(run_dir / "checkpoints/last").weights.items()
    }


def spans(run_dir):
    """Phase -> its spans in the trace."""
    trace = json.loads(gzip.decompress((run_dir / "trace.json.gz").read_bytes()))
    assert not {"host_name", "traceName"} & trace.keys()
    found = [e["name"].removeprefix("step: ") for e in trace["traceEvents"] if e.get("name", "").startswith("step: ")]
    return {phase: found.count(phase) for phase in PHASES}


def test_every_run_times_a_few_steps(train):
    plain, none = train(*RECIPE), train(*RECIPE, "profile=false")
    found = step_time(plain)
    # 24 updates; those from the third on, every fifth
    assert found["steps"] == 5
    assert found["seconds"] > 0
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert all(found["shares"][phase] > 0 for phase in ("data", "forward", "backward", "optimizer", "other"))
    assert all(found["shares"][phase] == 0 for phase in ("clip_and_noise", "waiting"))
    assert step_time(none) is None
    assert bits(plain) == bits(none)


def test_a_long_run_times_fewer_of_its_steps():
    clock = PhaseTimer(torch.device("cpu"))
    for _ in range(1000):
        clock.begin()
        clock.end()
    # every fifth from 2 to 202, then every 25th up to 977
    assert clock.read().steps == 41 + 31


def test_too_short_a_run_has_no_split(train):
    assert step_time(train(*RECIPE, "trainer.epochs=null", "trainer.steps=2")) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ("precision=fp16", "trainer.accumulation_steps=2", "data.batch_size=8", "trainer.clip_norm=1"),
        (
            "trainer=dp",
            "privacy.noise_multiplier=1",
            "privacy.grad_sample=ghost",
            "precision=bf16",
            "privacy.unsafe_noise_seed=0",
        ),
    ],
    ids=["standard", "dp"],
)
def test_a_profile_sees_phases_and_operators_and_changes_nothing(train, overrides):
    plain, watched = train(*RECIPE, *overrides), train(*RECIPE, *overrides, "+profile=true")
    assert bits(plain) == bits(watched)
    about = json.loads((watched / "profile.json").read_text())
    # a third of 24 updates is the warm-up
    assert (about["first_step"], about["steps"]) == (9, 10)
    assert about["step_time"]["steps"] == 6
    named = {operator["name"]: operator for operator in about["operators"]}
    assert named["aten::convolution_backward"]["calls"] >= 3
    assert sum(operator["share"] for operator in named.values()) == pytest.approx(1)
    assert any(operator["allocated_mb"] > 0 for operator in named.values())
    found = spans(watched)
    # a Poisson batch may be larger than data.batch_size
    assert found["forward"] == found["backward"] >= 10
    assert found["forward"] == 20 or "trainer=dp" in overrides
    assert found["clip_and_noise"] >= 10
    assert found["optimizer"] == 10
    text = (watched / "profile.md").read_text()
    assert "| clip and noise |" in text
    assert "aten::convolution_backward" in text
    # steps within the window are not timed, and those after it are
    assert step_time(watched)["steps"] == 24 - 2 - 10


def test_phases_are_named_under_the_transforms_of_torch_func_too(train):
    dp = (
        "trainer=dp",
        "privacy.noise_multiplier=1",
        "privacy.grad_sample=functional",
        "privacy.unsafe_noise_seed=0",
        "model=mlp",
    )
    found = spans(train(*RECIPE, *dp, "trainer.epochs=null", "trainer.steps=3", "profile=true"))
    assert found["forward"] == found["backward"] >= 2
    assert found["clip_and_noise"] >= 4


def test_a_run_that_ends_within_the_window_leaves_what_was_seen(train):
    run_dir = train(*RECIPE, "trainer.epochs=null", "trainer.steps=3", "profile=true")
    about = json.loads((run_dir / "profile.json").read_text())
    assert (about["first_step"], about["steps"]) == (2, 2)
    assert spans(run_dir)["forward"] == 2
    assert not (train(*RECIPE, "trainer.epochs=null", "trainer.steps=1") / "profile.json").exists()
