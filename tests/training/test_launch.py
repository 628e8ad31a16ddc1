"""Several processes: started by the runner, by torchrun, by accelerate; one folder, one record, no orphans."""

import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from runner.config.schema import HardwareConfig
from runner.planning.device import detect_device
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.distributed.launch import share_work
from tests.conftest import ROOT, last_of_each
from tests.faults import insisting

RECIPE = ("data.limit=64", "data.batch_size=8", "model=mlp", "trainer.epochs=2", "precision=fp64", "trainer=accelerate",
          "hardware=cpu")  # fmt: skip


def launch(tmp_path, *command, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *last_of_each(command)], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options,
    )  # fmt: skip


def finish(process, timeout=180):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for_records(process, metrics):
    end = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size > 500):
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end, "the run is too slow"
        time.sleep(0.1)


def test_torchrun_makes_one_folder_and_computes_what_own_processes_do(tmp_path, train):
    code, out, err = finish(launch(
        tmp_path, "torch.distributed.run", "--nproc-per-node=2", "-m", "runner", *RECIPE, "hydra.run.dir=torchrun",
    ))  # fmt: skip
    assert code == 0, err
    assert out.count("test accuracy") == 1, "one process speaks"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["torchrun"]
    own = train(*RECIPE, "hardware.processes=2")
    theirs = load_checkpoint(tmp_path / "torchrun" / "checkpoints" / "last").weights
    torch.testing.assert_close(theirs, load_checkpoint(own / "checkpoints" / "last").weights, rtol=1e-12, atol=0)
    assert len(list((tmp_path / "torchrun" / "wandb").glob("offline-run-*"))) == 1


def test_torchrun_runs_a_grid_in_step(tmp_path):
    code, _, err = finish(launch(
        tmp_path, "torch.distributed.run", "--nproc-per-node=2", "-m", "tests.training.threads_at_the_end",
        "--multirun", *RECIPE, "seed=0,1", "tracker=none", "hydra.sweep.dir=grid",
    ))  # fmt: skip
    assert code == 0, err
    for rank in "01":
        # A thread of the group that outlives it aborts the process now and then, while the interpreter shuts down.
        assert "gloo" not in (tmp_path / f"threads-{rank}").read_text()
    statuses = [json.loads((tmp_path / "grid" / cell / "run.json").read_text())["status"] for cell in ("0", "1")]
    assert statuses == ["completed", "completed"]


def test_a_wrong_request_under_torchrun_is_refused_by_one_process(tmp_path):
    code, _, err = finish(launch(
        tmp_path, "torch.distributed.run", "--nproc-per-node=2", "-m", "runner", "data.batchsize=8",
        preexec_fn=lambda: None,  # not forked: an agent that ends workers waits 30 s for those that are none of its own
    ))  # fmt: skip
    assert code != 0
    assert err.count("error: data.batchsize") == 1
    assert not (tmp_path / "outputs").exists()


def test_accelerate_launch(tmp_path):
    code, _, err = finish(launch(
        tmp_path, "accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1",
        "--mixed_precision=no", "--dynamo_backend=no", "-m", "runner", *RECIPE, "tracker=none", "hydra.run.dir=out",
    ))  # fmt: skip
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "completed"


def test_when_one_process_is_killed_the_others_end_and_none_is_left(tmp_path):
    process = launch(tmp_path, "runner", *RECIPE, "hardware.processes=2", "trainer.epochs=5000", "tracker=none",
                     "hydra.run.dir=out")  # fmt: skip
    wait_for_records(process, tmp_path / "out" / "metrics.jsonl")
    ranks = _ranks_of(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    killed = time.monotonic()
    code, _, err = finish(process, timeout=60)
    assert time.monotonic() - killed < 30
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert not any(_alive(pid) for pid in ranks)


def test_sigterm_to_the_parent_saves_and_stops_all(tmp_path):
    process = launch(tmp_path, "runner", *RECIPE, "hardware.processes=2", "trainer.epochs=5000", "tracker=none",
                     "hydra.run.dir=out")  # fmt: skip
    wait_for_records(process, tmp_path / "out" / "metrics.jsonl")
    ranks = _ranks_of(process.pid)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, timeout=60)
    assert code == 75, err
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["status"] == "interrupted"
    assert load_checkpoint(tmp_path / "out" / "checkpoints" / "last").step == run["steps"]
    assert not any(_alive(pid) for pid in ranks)


def test_ctrl_c_while_the_processes_start_is_one_line(tmp_path):
    # a job in the background, as of a shell script, is born deaf to it
    hearing = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = launch(tmp_path, "runner", *RECIPE, "hardware.processes=2", "tracker=none", "hydra.run.dir=out",
                     preexec_fn=hearing)  # fmt: skip
    end = time.monotonic() + 120
    while len(ranks := _ranks_of(process.pid)) < 2:
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end, "the run is too slow"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = finish(process, timeout=60)
    assert (code, err.splitlines()[0]) == (75, "interrupted")
    assert all(line.startswith("goes on with: ") for line in err.splitlines()[1:])
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    assert not any(_alive(pid) for pid in ranks)


def share(work, folder, job=None, processes=1, **options):
    """``work`` of processes of its own."""
    hardware = HardwareConfig(device="cpu")
    device = detect_device(hardware)
    return share_work(
        work, job, hardware=hardware, device=device, processes=processes, failures=folder / "log", **options
    )


def test_ctrl_c_that_comes_to_another_thread_while_processes_are_started_leaves_none_of_them(tmp_path):
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt, match="SIGINT"):
            share(insisting.busy, tmp_path, job=insisting.WhileStarting(thread.ident), processes=2)
        left = multiprocessing.active_children()
        for process in left:
            process.kill()
        assert not left
    finally:
        over.set()
        thread.join()


def test_ctrl_c_while_the_processes_end_is_heard_by_the_one_that_waits_for_them(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        share(insisting.when_done, tmp_path)


def test_a_second_ctrl_c_ends_processes_that_are_busy_with_the_first(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        share(insisting.twice, tmp_path, handles_signals=True)


@pytest.mark.parametrize("trainer", ["standard", "mixed_precision"])
def test_a_trainer_for_one_process_refuses_a_launch_of_several(command, monkeypatch, trainer):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = command(f"trainer={trainer}", "hardware=cpu")
    assert code == 2
    assert err.startswith(f"error: trainer: got {trainer} in 2 processes")


def test_another_number_of_processes_than_the_launcher_started_is_refused(command, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = command("trainer=accelerate", "hardware=cpu", "hardware.processes=4")
    assert code == 2
    assert err.startswith("error: hardware.processes: got 4 under a launcher that started 2 processes, expected 2")


def _ranks_of(pid):
    """Children of ``pid`` that train, without the resource tracker of multiprocessing."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(
        int(child)
        for child in children
        if any("spawn_main" in Path(f"/proc/{child}/{told}").read_text() for told in ("cmdline", "comm"))
    )


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
