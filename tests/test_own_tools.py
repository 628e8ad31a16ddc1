"""What tests lean on: programs that are forked are like programs that are started, other kernels are other kernels."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.other_kernels import FILES, LEFT_OUT, SLOW, asked, environment


def refused(tmp_path, **more):
    """A request that is answered before anything is imported."""
    return subprocess.run(
        [sys.executable, "-m", "runner", "data.batchsize=8"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | more,
    )  # fmt: skip


def test_a_forked_program_answers_as_a_started_one(tmp_path):
    forked, started = refused(tmp_path), refused(tmp_path, OF_THE_REAL_THING="1")
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.returncode == 2
    assert forked.stderr.startswith("error: data.batchsize: got 8")


def test_a_forked_program_is_a_child_of_its_own(tmp_path):
    command = [sys.executable, "-m", "runner", "keys", "--no-such-option"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert os.getsid(process.pid) == process.pid
    assert str(Path(f"/proc/{process.pid}/cwd").readlink()) in (str(tmp_path), str(ROOT))
    process.kill()
    assert process.wait(timeout=30) != 0


def test_files_on_numbers_are_there():
    for file in (*FILES, *SLOW, *LEFT_OUT):
        path, _, test = file.partition("::")
        assert f"def {test}" in (ROOT / "tests" / path).read_text()
    assert all("/tests/optim/" in file for file in asked(["tests/optim"]))
    assert asked(["tests/disk"]) == []


@pytest.mark.parametrize(("vectors", "told"), [("default", "DEFAULT"), ("avx2", "AVX2")])
def test_an_environment_changes_the_kernels(vectors, told):
    ask = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | environment(vectors, "AVX2", 1), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    if told == "DEFAULT" or "avx2" in Path("/proc/cpuinfo").read_text():
        assert done.stdout.split() == [told, "1"]
