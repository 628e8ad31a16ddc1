import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from runner.records.environment import describe_environment, peak_memory_bytes

GIT = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]


@pytest.fixture
def patch():
    """Undone before the check for leaked variables looks."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_facts_are_there_and_plain():
    facts = describe_environment()
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cores"] >= 1
    assert facts["ram_bytes"] > 2**28
    assert facts["threads"] == torch.get_num_threads()
    assert len(facts["gpus"]) == torch.cuda.device_count()
    json.dumps(facts, allow_nan=False)


def test_nothing_tells_who_or_where(patch):
    patch.setenv("WANDB_API_KEY", "secret-key")
    text = json.dumps(describe_environment())
    for private in (str(Path.home()), str(Path.cwd()), "secret-key", os.environ.get("PATH", "-")):
        assert private not in text
    # Host and user names may be words that occur anyway ("linux", "root"): look for them as whole values.
    values = set(_leaves(describe_environment()))
    assert socket.gethostname() not in values
    assert getpass.getuser() not in values


def _leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def test_variables_that_matter_are_kept(patch):
    patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    patch.delenv("OMP_NUM_THREADS", raising=False)
    variables = describe_environment()["variables"]
    assert variables["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "OMP_NUM_THREADS" not in variables


def test_commit_and_changes_of_the_folder_that_the_user_stands_in(tmp_path, patch):
    patch.chdir(tmp_path)
    patch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_environment()["git"] is None
    subprocess.run([*GIT, "init", "-q"], check=True)
    (tmp_path / "file").write_text("a")
    subprocess.run([*GIT, "add", "file"], check=True)
    subprocess.run([*GIT, "commit", "-qm", "m"], check=True)
    commit = subprocess.run([*GIT, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "untracked").write_text("b")
    assert describe_environment()["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "file").write_text("c")
    assert describe_environment()["git"] == {"commit": commit, "dirty": True}


def test_no_git_is_no_failure(patch, tmp_path):
    patch.setenv("PATH", str(tmp_path))
    assert describe_environment()["git"] is None


def test_the_peak_of_this_process_is_plausible():
    assert 50 * 2**20 < peak_memory_bytes(torch.device("cpu")) < describe_environment()["ram_bytes"]


@pytest.mark.gpu
def test_on_a_gpu_the_device_memory_counts():
    device = torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats(device)
    block = torch.zeros(64 * 2**20, dtype=torch.uint8, device=device)
    del block
    assert 64 * 2**20 <= peak_memory_bytes(device) < 128 * 2**20


def test_readers_of_records_need_no_torch():
    modules = ("recorder", "console", "run_file", "sweep_table", "sink", "wandb_sink")
    imports = "; ".join(f"import runner.records.{name}" for name in modules)
    heavy = "{'torch', 'wandb', 'numpy', 'rich', 'tensorboard'}"
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print({heavy} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "set()\n"


MEASURE = """
import sys
import torch
from runner.records.environment import peak_memory_bytes
cpu = torch.device("cpu")
before = peak_memory_bytes(cpu)
block = bytearray(b"x") * (int(sys.argv[1]) * 2**20)
del block
print(before, peak_memory_bytes(cpu))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_sees_what_was_freed_and_not_what_the_parent_held():
    held = bytearray(b"x") * (1500 * 2**20)
    answer = subprocess.run([sys.executable, "-c", MEASURE, "200"], capture_output=True, text=True, check=True)
    del held
    before, after = map(int, answer.stdout.split())
    # torch and what it needs
    assert before < 900 * 2**20
    assert 190 * 2**20 < after - before < 260 * 2**20
