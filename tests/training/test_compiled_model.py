"""Trained by torch's compiler: numbers, names and bits of a run without it, one compilation, one-line refusals."""

import errno
import json
import logging
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from runner.data.open import open_data
from runner.errors import RunError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.training.compiled_model import _is_worth_telling, _not_compiled
from runner.training.distributed.world import SingleProcess
from runner.training.parts import build_parts

# 80 examples in micro-batches of 32, 32 and 16, by a model with dropout
RECIPE = ("hardware=cpu", "hardware.threads=1", "data=digits", "data.limit=80", "data.batch_size=32", "model=linear",
          "model._target_=tests.training.dropping_net.build", "trainer.save_every=1", "trainer.epochs=2")  # fmt: skip
COMPILED = (*RECIPE, "hardware.compile=true")


@pytest.fixture(autouse=True)
def _own_model(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.training.dropping_net")


def weights(run_dir):
    return load_file(run_dir / "checkpoints/last/model.safetensors")


def test_a_compiled_run_is_the_run_and_goes_on_to_the_same_bits(train, tmp_path):
    from torch._dynamo.utils import counters

    eager = train(*RECIPE)
    before = counters["stats"]["unique_graphs"]
    compiled = train(*COMPILED)
    assert counters["stats"]["unique_graphs"] == before + 1, "neither the short micro-batch nor the evaluation"
    records = [json.loads((run / "run.json").read_text()) for run in (eager, compiled)]
    assert records[0]["plan"]["identity"] == records[1]["plan"]["identity"]
    assert records[1]["metrics"] == pytest.approx(records[0]["metrics"], rel=1e-5)
    assert records[0]["throughput"]["compile_seconds"] is None
    assert records[1]["throughput"]["compile_seconds"] > 0
    assert list(weights(compiled)) == list(weights(eager))
    for name, value in weights(eager).items():
        torch.testing.assert_close(weights(compiled)[name], value, rtol=1e-4, atol=1e-6)

    whole = weights(compiled)
    (compiled / "run.json").write_text(json.dumps(records[1] | {"status": "running"}))
    shutil.rmtree((compiled / "checkpoints/last").resolve())
    train(*COMPILED, run_dir=compiled)
    for name, value in weights(compiled).items():
        assert torch.equal(value, whole[name]), name


def test_without_a_c_compiler_the_run_fails_in_one_line(configure):
    import torch._inductor.config as inductor

    config = configure(*COMPILED, "data.batch_size=8", "tracker=none")
    data = open_data(config.data)
    plan = build_plan(config, data, detect_device(config.hardware), processes=1)
    parts = build_parts(plan, data, SingleProcess(torch.device("cpu")))
    images, labels = parts.feed.batch(torch.arange(8), None)
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(RunError) as refused:
        parts.rule.add(images, labels)
    assert "cannot be compiled (InvalidCxxCompiler: " in str(refused.value)
    assert "hardware.compile=false" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_torch_does_not_tell_of_a_gpu_that_nobody_asked_for():
    def lets_through(message, *values):
        return _is_worth_telling(logging.LogRecord("torch", logging.WARNING, "", 0, message, values, None))

    assert not lets_through("No CUDA runtime is found, using CUDA_HOME='%s'", "/usr/local/cuda")
    assert lets_through("the compiler %s is old", "c++")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_named_where_the_compiler_says_so(monkeypatch, number):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/the/folder")
    said = f"C++ compile error\n\nOutput:\nfatal error: /the/folder/header.i: {os.strerror(number)}"
    refused = str(_not_compiled(RuntimeError(said)))
    assert refused.startswith(f"the model cannot be compiled ({os.strerror(number)} in /the/folder); try TMPDIR=FOLDER")
    assert "RuntimeError: C++ compile error" in str(_not_compiled(RuntimeError("C++ compile error\n\nOutput:")))
