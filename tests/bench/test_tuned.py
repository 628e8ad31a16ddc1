"""The scripts tuned by hand compute what the runner does, on either device."""

import dataclasses

import pytest

from runner.bench import tuned
from runner.bench.named_models import parse_model
from runner.bench.paired_benchmark import run_paired
from runner.bench.settings import Settings
from runner.bench.task import prepare


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_script_and_runner_have_the_same_losses_in_bfloat16_and_another_rate_has_not(tmp_path, device):
    task = parse_model("small_cnn@8x4", device=device)
    prepared = tmp_path / "task.pt"
    prepare(task, prepared)
    other = dataclasses.replace(tuned._RUNNER, options=("precision=bf16", "optimizer.lr=1.0"))
    proofs = Settings(threads=1, launches=0, rounds=1, work=str(tmp_path))
    script, runner, faster = run_paired(task, prepared, (tuned._HAND, tuned._RUNNER, other), proofs)
    assert len(script.losses) == task.proof_steps
    assert runner.losses == pytest.approx(script.losses, rel=1e-3)
    assert runner.same
    assert not faster.same


@pytest.mark.gpu
def test_every_contender_runs_on_a_gpu(tmp_path):
    settings = Settings(threads=1, launches=1, rounds=1, work=str(tmp_path), device="cuda", models=("small_cnn@32x32",))
    (section,) = tuned.measure(settings)
    assert section.name == "tuned_cuda_small_cnn"
    assert not [row for row in section.rows if "not the same" in row[1]]


def test_a_block_on_a_gpu_is_an_epoch_and_long_enough_for_its_energy_counter():
    large, small = (parse_model(f"resnet18@{size}x64", device="cuda") for size in (224, 32))
    assert large.block < small.block
    assert "data.num_train=640" in large.request
    assert "hardware.device=cuda" in small.request
    assert "trainer.log_every=1" not in small.request
