"""A learning rate scaled to the effective batch is that of who types the result."""

import pytest

from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device


@pytest.mark.parametrize(("rule", "expected"), [("linear", 0.4), ("sqrt", 0.2)])
def test_the_rate_follows_the_effective_batch_over_all_processes(configure, rule, expected):
    def plan(*words, processes):
        config = configure("data.limit=300", "hardware=cpu", *words)
        return build_plan(config, open_data(config.data), detect_device(config.hardware), processes=processes)

    batch = ("data.batch_size=16", "trainer.accumulation_steps=2", "trainer=accelerate", "hardware.processes=2")
    scaled = plan(
        *batch, "optimizer.lr=0.1", f"optimizer.scale_lr={rule}", "optimizer.reference_batch_size=16", processes=2
    )
    assert scaled.semantic.optimizer.lr == pytest.approx(expected)
    assert scaled.identity == plan(*batch, f"optimizer.lr={expected}", processes=2).identity
    assert any("64 / 16" in line and f"scale_lr={rule}" in line for line in scaled.describe())
    assert plan(*batch, "optimizer.lr=0.1", processes=2).semantic.optimizer.lr == 0.1
