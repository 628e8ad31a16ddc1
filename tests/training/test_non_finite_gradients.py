"""Numbers that go wrong stop the run before they reach the weights, with a line that helps."""

import json

import pytest
import torch

from runner.errors import RunError
from runner.execution.job import run_job
from runner.training.checkpointing.checkpoint import load_checkpoint

RECIPE = ("tracker=none", "data.limit=48", "data.batch_size=8", "trainer.epochs=3", "trainer.save_every=1",
          "hardware=cpu", "hardware.threads=1")  # fmt: skip


@pytest.fixture
def fail(configure, tmp_path, monkeypatch):
    """fail("key=value", ..., call=9) -> error and ``run.json`` of a run whose logits are NaN from that update on."""
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.faults")

    def fail(*overrides, call):
        config = configure(*RECIPE, *overrides)
        config.model.target = "tests.faults.hungry.build"
        config.model.options = {"room": 0, "call": call, "error": "nan"}
        with pytest.raises(RunError) as failed:
            run_job(config, {}, tmp_path, None)
        assert "\n" not in str(failed.value)
        return str(failed.value), json.loads((tmp_path / "run.json").read_text())

    return fail


@pytest.mark.parametrize(
    ("precision", "cures"),
    [
        ("fp32", "a lower optimizer.lr (now 0.0293) or trainer.clip_norm=1"),
        ("bf16", "a lower optimizer.lr (now 0.0293) or trainer.clip_norm=1"),
    ],
)
def test_step_examples_and_cures_are_named_and_the_checkpoint_is_kept(fail, tmp_path, precision, cures):
    line, record = fail(f"precision={precision}", call=9)
    assert line.startswith("step 9: the loss of 8 of 8 examples is not finite (training example ")
    assert line.endswith(f"; no update was made; try {cures}")
    assert (record["status"], record["error"]) == ("failed", line)
    checkpoint = load_checkpoint(tmp_path / "checkpoints" / "last")
    assert checkpoint.step == 6
    assert all(weights.isfinite().all() for weights in checkpoint.weights.values() if torch.is_floating_point(weights))


def test_float16_skips_and_gives_up_after_so_many_in_a_row(fail, tmp_path):
    line, record = fail("trainer=mixed_precision", "precision=fp16", "precision.max_skipped_in_a_row=4", call=8)
    assert line.startswith("step 11: the loss of 8 of 8 examples is not finite (")
    assert "no update was made; try precision=bf16 or a lower optimizer.lr" in line
    assert record["status"] == "failed"
    assert load_checkpoint(tmp_path / "checkpoints" / "last").step == 6


def test_a_decay_that_makes_the_weights_larger_is_named_instead_of_the_gradient(fail):
    line, _ = fail("optimizer.weight_decay=1e6", call=1)
    cure = (
        "a lower optimizer.lr (now 0.05) or optimizer.weight_decay (now 1e+06): with both the decay makes the weights"
    )
    assert line.endswith(f"; no update was made; try {cure} larger")


def test_clipping_is_not_offered_to_those_who_clip(fail):
    line, _ = fail("trainer.clip_norm=1", call=1)
    assert line.startswith("step 1: ")
    assert "clip_norm" not in line
