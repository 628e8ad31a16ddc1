"""A run that is interrupted and started again ends with the bits of one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from runner.records.metrics import read_metrics
from runner.training.checkpointing.checkpoint import load_checkpoint

RECIPE = ("data.limit=400", "data.batch_size=16", "trainer.epochs=6", "trainer.log_every=10", "hardware.threads=1",
          "trainer.label_smoothing=0.1", "data.augment.crop_padding=1")  # fmt: skip
MEASURED = ("samples_per_second", "seconds", "timed_examples", "run_seconds", "peak_bytes")


def final_state(run_dir):
    checkpoint = load_checkpoint(run_dir / "checkpoints" / "last")
    state = dict(checkpoint.state)
    del state["ledger_entry"]  # drawn anew for each run
    loop_state = {key: value for key, value in state.pop("standing").items() if key not in MEASURED}
    loop_state |= {name: state.pop(name) for name in ("grad_sample", "noise_form")}
    records = [
        {key: value for key, value in record.items() if key not in MEASURED}
        for record in read_metrics(run_dir / "metrics.jsonl")
    ]
    return checkpoint.weights, state, loop_state, records


@pytest.mark.parametrize(
    "recipe",
    [
        ("model=mlp", "task.class_weights=balanced"),
        ("trainer=mixed_precision", "precision=fp16", "precision.growth_interval=20", "trainer.clip_norm=1"),
        (
            "model=mlp",
            "trainer=dp",
            "privacy.noise_multiplier=1",
            "privacy.unsafe_noise_seed=5",
            "privacy.grad_sample=ghost",
            "precision=bf16",
            "trainer.ema_decay=0.95",
        ),
        (
            "model=small_cnn",
            "trainer.ema_decay=0.9",
            "trainer.test_checkpoint=best",
            "data.sampler=balanced",
            "data.augment.mixup=0.2",
            "task.loss=focal",
            "trainer.label_smoothing=0",
        ),
    ],
    ids=["weighted", "fp16", "dp-bf16-averaged", "averaged-balanced-mixed-focal"],
)
def test_sigterm_in_mid_epoch_then_the_same_command_gives_the_same_bits(train, tmp_path, recipe):
    whole = final_state(train(*RECIPE, *recipe))
    command = [sys.executable, "-m", "runner", "tracker=none", "hydra.run.dir=stopped", *RECIPE, *recipe]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=_environment())
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    _wait_until(lambda: metrics.exists() and len(read_metrics(metrics)) >= 4, process)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 75, error
    stopped = json.loads((tmp_path / "stopped" / "run.json").read_text())
    assert stopped["status"] == "interrupted"
    assert 0 < stopped["steps"] < 6 * 25

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=_environment(), check=False)
    assert again.returncode == 0, again.stderr
    weights, state, loop_state, records = final_state(tmp_path / "stopped")
    torch.testing.assert_close(weights, whole[0], rtol=0, atol=0)
    torch.testing.assert_close(state, whole[1], rtol=0, atol=0)
    assert loop_state == whole[2]
    assert records == whole[3]


def test_a_second_signal_ends_at_once(tmp_path):
    command = [sys.executable, "-m", "runner", "tracker=none", "hydra.run.dir=out", "trainer.epochs=500"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, env=_environment())
    metrics = tmp_path / "out" / "metrics.jsonl"
    _wait_until(lambda: metrics.exists() and read_metrics(metrics), process)
    os.kill(process.pid, signal.SIGSTOP)  # so that both signals are pending when it goes on
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(timeout=20) in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_a_folder_with_another_recipe_is_refused(train, configure):
    from runner.errors import RequestError
    from runner.execution.job import run_job

    run_dir = train("data.limit=60", "model=linear", "trainer.epochs=1")
    before = sorted((path, path.stat().st_mtime_ns) for path in run_dir.rglob("*"))
    config = configure("tracker=none", "data.limit=60", "model=linear", "trainer.epochs=1", "optimizer.lr=0.2")
    with pytest.raises(RequestError, match=r"hydra\.run\.dir"):
        run_job(config, {}, run_dir, None)
    assert sorted((path, path.stat().st_mtime_ns) for path in run_dir.rglob("*")) == before


def test_performance_settings_may_change_between_the_two(train):
    recipe = ("data.limit=96", "model=mlp", "precision=fp64")
    run_dir = train(*recipe, "trainer.epochs=3", "data.batch_size=16")
    again = train(*recipe, "trainer.epochs=3", "data.batch_size=8", "trainer.accumulation_steps=2", run_dir=run_dir)
    assert json.loads((again / "run.json").read_text())["status"] == "completed"


def _environment():
    from tests.conftest import ROOT

    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def _wait_until(condition, process, timeout=90):
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end, "the run is too slow"
        time.sleep(0.05)


def test_a_finished_run_is_left_as_it_is(train):
    recipe = ("data.limit=60", "model=linear", "trainer.epochs=1")
    run_dir = train(*recipe)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"}
    train(*recipe, run_dir=run_dir)
    assert {path: path.read_bytes() for path in before} == before


def test_weights_count_by_their_contents(train, configure, tmp_path):
    from runner.errors import RequestError

    first = train("data.limit=60", "model=linear", "trainer.epochs=1", "seed=1") / "checkpoints/last/model.safetensors"
    other = train("data.limit=60", "model=linear", "trainer.epochs=1", "seed=2") / "checkpoints/last/model.safetensors"
    weights = tmp_path / "weights.safetensors"
    shutil.copy(first, weights)
    recipe = ("data.limit=60", "model=linear", "trainer.epochs=2")
    run_dir = train(*recipe, f"model.weights={weights}")
    moved = shutil.copy(weights, tmp_path / "moved.safetensors")
    train(*recipe, f"model.weights={moved}", run_dir=run_dir)
    shutil.copy(other, weights)
    with pytest.raises(RequestError, match=r"model\.weights"):
        train(*recipe, f"model.weights={weights}", run_dir=run_dir)


def test_auto_and_what_it_chose_are_one_recipe(train):
    recipe = ("data.limit=60", "model=linear", "trainer.epochs=1")
    run_dir = train(*recipe, "precision=auto", "hardware=cpu")
    chosen = json.loads((run_dir / "run.json").read_text())["plan"]["semantic"]["precision"]["dtype"]
    named = f"precision.amp_dtype={chosen}"
    train(*recipe, named, "hardware=cpu", "precision.growth_interval=8", run_dir=run_dir)


@pytest.mark.parametrize("before", ["ghost", "functional"])
def test_a_private_run_killed_before_its_first_save_keeps_its_way_to_gradients(train, before):
    recipe = (
        "data.limit=60",
        "model=mlp",
        "trainer=dp",
        "data.batch_size=16",
        "trainer.steps=2",
        "privacy.noise_multiplier=1",
        "privacy.unsafe_noise_seed=5",
    )
    run_dir = train(*recipe)
    shutil.rmtree(run_dir / "checkpoints")
    killed = json.loads((run_dir / "run.json").read_text())
    killed["status"] = "running"
    killed["plan"]["performance"]["grad_sample"] = before
    (run_dir / "run.json").write_text(json.dumps(killed))
    train(*recipe, run_dir=run_dir)
    performance = json.loads((run_dir / "run.json").read_text())["plan"]["performance"]
    assert (performance["grad_sample"], performance["grad_sample_reason"]) == (before, "as before the interruption")


def test_the_key_of_a_private_run_is_kept(train):
    recipe = ("data.limit=60", "data.batch_size=16", "model=mlp", "trainer=dp", "trainer.steps=12",
              "trainer.save_every=1", "privacy.noise_multiplier=1", "privacy.grad_sample=ghost")  # fmt: skip
    run_dir = train(*recipe)
    last = (run_dir / "checkpoints" / "last").resolve()
    key = load_checkpoint(last).state["secret_key"]
    shutil.rmtree(last)
    killed = json.loads((run_dir / "run.json").read_text()) | {"status": "running"}
    (run_dir / "run.json").write_text(json.dumps(killed))
    train(*recipe, run_dir=run_dir)
    assert load_checkpoint(last).state["secret_key"] == key
