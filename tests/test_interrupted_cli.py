"""The command line around runs that ended early: the same command, ``resume=DIR``, a folder in use, a full disk."""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from runner.records.metrics import read_metrics
from runner.training.checkpointing.checkpoint import saved_steps
from tests.conftest import ROOT, last_of_each
from tests.faults.final_state import differences, final_state

RECIPE = ("tracker=none", "data.limit=200", "data.batch_size=16", "model=mlp", "hardware.threads=1",
          "trainer.log_every=5")  # fmt: skip


@pytest.fixture
def start(tmp_path):
    """start("key=value", ...) -> a running ``python -m runner``; file_limit is the largest file that it may write."""

    def start(*arguments, file_limit=None):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *last_of_each(arguments)],
            cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=file_limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))),
        )  # fmt: skip

    return start


@pytest.fixture
def command(start):
    """command(...) -> exit code and standard error of a run that has ended."""

    def command(*arguments, **options):
        process = start(*arguments, **options)
        _, err = process.communicate(timeout=200)
        return process.returncode, err

    return command


def wait_for_checkpoint(run_dir, process):
    end = time.monotonic() + 120
    while not (run_dir / "checkpoints" / "last").exists():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end, "the run is too slow"
        time.sleep(0.02)


def one_line(err):
    """The error, which is all that was said apart from the plan and the progress."""
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert err.splitlines()[-1] == errors[0]
    return errors[0]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_in_use_is_refused_and_free_again_after_a_kill(start, command, tmp_path, train):
    run_dir = tmp_path / "run"
    first = start(*RECIPE, "trainer.epochs=2000", "hydra.run.dir=run")
    wait_for_checkpoint(run_dir, first)
    first.send_signal(signal.SIGSTOP)  # it holds the lock all the same, and leaves the machine to the others
    hydra = contents(run_dir / ".hydra")
    for again in (("trainer.epochs=2000",), ("trainer.epochs=2000", "optimizer.lr=0.01")):
        code, err = command(*RECIPE, *again, "hydra.run.dir=run")
        assert code == 2
        assert one_line(err) == err.strip()
        assert err.startswith("error: hydra.run.dir: got ")
        assert "no other run" in err
    assert contents(run_dir / ".hydra") == hydra
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    code, err = command(*RECIPE, "trainer.epochs=2", "hydra.run.dir=run")
    assert code == 2
    assert one_line(err).startswith("error: trainer.epochs: got "), "the lock is gone, the recipe is another"
    assert contents(run_dir / ".hydra") == hydra


def test_resume_names_a_folder_and_goes_on_there(start, command, tmp_path, train):
    recipe = (*RECIPE, "trainer.epochs=30", "trainer.save_every=2")
    whole = final_state(train(*recipe))
    run_dir = tmp_path / "my run"
    first = start(*recipe, "hydra.run.dir=my run")
    wait_for_checkpoint(run_dir, first)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate()
    assert first.returncode == 75
    (pasted,) = re.findall(r"^goes on with: (.*)$", err, re.M)
    goes_on = shlex.split(pasted)
    assert goes_on[1:] == ["-m", "runner", f"resume={run_dir}"]
    before = contents(run_dir / ".hydra")
    code, err = command("resume=my run", "optimizer.lr=0.01")
    assert code == 2
    assert one_line(err).startswith("error: optimizer.lr: got 0.01, expected 0.05, as in the checkpoints of ")
    assert contents(run_dir / ".hydra") == before
    # how it runs may change
    code, err = command(goes_on[-1], "hardware=cpu", "trainer.save_every=1")
    assert code == 0, err
    assert json.loads((run_dir / "run.json").read_text())["plan"]["performance"]["save_every"] == 1
    found = final_state(run_dir)
    assert not [path for path in differences(found, whole) if not path.startswith("files")]
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("resume=nowhere",), "resume"),
        (("resume=.", "hydra.run.dir=other"), "hydra.run.dir"),
        (("--multirun", "resume=.", "seed=0,1"), "resume"),
    ],
)
def test_what_resume_does_not_go_with(command, tmp_path, arguments, key):
    code, err = command(*arguments)
    assert code == 2
    assert one_line(err).startswith(f"error: {key}: got ")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("limit", "message"), [(64_000, "error: the checkpoint of step "), (20_000, "error: metrics.jsonl: ")]
)
def test_a_full_disk_leaves_the_checkpoint_before_and_the_same_command_goes_on(
    start, command, tmp_path, train, limit, message
):
    """No file may grow past the limit, which is less than a checkpoint or less than all the records."""
    small = ("model=linear", "trainer.log_every=1") if message.startswith("error: metrics") else ()
    recipe = (*RECIPE, *small, "trainer.epochs=40", "trainer.save_every=1")
    whole = final_state(train(*recipe))
    run_dir = tmp_path / "run"
    first = start(*recipe, "hydra.run.dir=run")
    wait_for_checkpoint(run_dir, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    # the link may still be at the one before: a kill came between the two
    intact = contents(saved_steps(run_dir / "checkpoints")[0])
    code, err = command(*recipe, "hydra.run.dir=run", file_limit=limit)
    assert code == 1
    assert one_line(err).startswith(message)
    assert "File too large" in err or "the disk is full" in err
    run = json.loads((run_dir / "run.json").read_text())
    assert run["status"] == "failed"
    if not small:
        assert contents((run_dir / "checkpoints" / "last").resolve()) == intact
    assert not list((run_dir / "checkpoints").glob(".*"))
    assert not list(run_dir.glob(".*.tmp"))
    code, err = command(*recipe, "hydra.run.dir=run")
    assert code == 0, err
    found = final_state(run_dir)
    assert not [path for path in differences(found, whole) if not path.startswith("files")]
    assert read_metrics(run_dir / "metrics.jsonl")[-1]["kind"] == "test"


def test_a_cache_without_room_is_one_line(command, tmp_path):
    draw = np.random.default_rng(0)
    for number in range(24):
        file = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    images = ("tracker=none", "data=image_folder", "data.root=images", "data.cache_dir=fresh", "hydra.run.dir=run")
    code, err = command(*images, file_limit=50_000)
    assert code == 2
    assert one_line(err).startswith("error: data.cache_dir: got fresh (File too large)")
    assert not [path for path in (tmp_path / "fresh").iterdir() if path.is_dir()], "half an entry"
    assert not (tmp_path / "run").exists()


def test_a_log_that_cannot_be_written_is_no_traceback(command, tmp_path):
    code, err = command(*RECIPE, "hydra.run.dir=run", "optimizer.lr=1e30", "trainer.epochs=3", file_limit=12_000)
    assert code == 1
    one_line(err)
