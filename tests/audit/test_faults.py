"""The audit passes the real trainer and fails each planted fault; the whole table is in docs/results."""

import numpy as np
import pytest

from runner.audit import canary_audit
from runner.audit.canary_audit import run_audit
from runner.training.run_data import open_run_data
from tests.audit.faults import FAULTS, planted

# what must catch each fault, whatever else does
CAUGHT_BY = {
    "none": None,
    "no noise": "lower bound",
    "a tenth of the noise": "lower bound",
    "noise divided by the batch": "lower bound",
    "no clipping": "lower bound",
    "clipping of the batch mean": "lower bound",
    "the same noise at each step": "noise: another in each step",
    "shuffling accounted as Poisson": "batches: variance of the size",
}
# smaller than an audit by default, and with a fixed key, so that the test repeats itself
CANARIES = ("experiment=audit", "data.canaries=400", "data.batch_size=150", "trainer.steps=60", "hardware.threads=1",
            "privacy.unsafe_noise_seed=7")  # fmt: skip


@pytest.mark.parametrize(("fault", "epsilon"), [("none", 1), *((fault, 3) for fault in FAULTS)])
def test_verdict(configure, fault, epsilon):
    config = configure(*CANARIES, f"privacy.epsilon={epsilon}")
    with planted(fault):
        audit = run_audit(config, guesses=200, confidence=0.95)
    assert epsilon - 0.01 < audit.claimed <= epsilon
    if CAUGHT_BY[fault] is None:
        assert audit.failures == ()
        assert audit.lower_bound <= audit.claimed < audit.measurable
    else:
        assert CAUGHT_BY[fault] in audit.failures


def test_every_fault_has_its_verdict():
    assert CAUGHT_BY.keys() == FAULTS.keys()
    assert len(FAULTS) == 8


@pytest.mark.parametrize("fault", ["clipping at 2 C", "noise 2 % short"])
def test_weak_faults_are_caught_by_the_direct_checks(configure, fault):
    with planted(fault):
        audit = run_audit(configure("experiment=audit", "privacy.epsilon=2", "hardware.threads=1",
                                    "privacy.unsafe_noise_seed=7"), guesses=200, confidence=0.95)  # fmt: skip
    expected = "sensitivity of a step, over C" if "clipping" in fault else "noise: deviation of each tensor"
    assert expected in audit.failures


@pytest.mark.parametrize(
    "recipe",
    [
        ("model=mlp", "model.bias=false", "model.hidden=[16]"),
        ("precision=bf16", "optimizer=adamw", "optimizer.lr=0.001", "privacy.grad_sample=ghost"),
        ("precision=fp16",),
        ("data.batch_size=50", "trainer.accumulation_steps=3", "privacy.grad_sample=hooks"),
    ],
    ids=["mlp", "bf16 adamw ghost", "fp16", "accumulated hooks"],
)
def test_other_recipes_pass_and_without_noise_they_fail(configure, recipe):
    config = configure(*CANARIES, *recipe, "trainer.steps=30", "privacy.epsilon=3")
    assert run_audit(config, guesses=200, confidence=0.95).failures == ()
    with planted("no noise"):
        assert "lower bound" in run_audit(config, guesses=200, confidence=0.95).failures


def test_random_images_as_canaries_would_miss_absent_noise(configure, monkeypatch):
    """Why a canary is one pixel: the control puts 400 random images of 64 pixels in their place."""

    def overlapping(config):
        data = open_run_data(config)
        canaries = data.train.images[:400].reshape(400, -1)
        canaries[:] = 0
        canaries[:, :64] = np.random.default_rng(0).integers(0, 256, (400, 64))
        return data

    monkeypatch.setattr(canary_audit, "open_run_data", overlapping)
    with planted("no noise"):
        audit = run_audit(configure(*CANARIES, "privacy.epsilon=3"), guesses=200, confidence=0.95)
    assert audit.lower_bound < audit.claimed
