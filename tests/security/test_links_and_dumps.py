"""Links planted in a run's folder lead nowhere; the memory of a process with a secret key is in no core dump."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.api import composed_request
from runner.commands import export, infer
from runner.disk.links import outward_link
from runner.errors import RequestError, RunError
from runner.report.write import write_report
from tests.conftest import ROOT

RECIPE = ("data.limit=60", "model=linear", "trainer.steps=2", "tracker=none", "hydra.run.dir=run")


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "elsewhere" / "precious"
    path.parent.mkdir()
    path.write_text("precious\n")
    return path


# What a run writes, appends to or replaces in its folder.
PLANTED = ("metrics.jsonl", "run.log", "run.json", ".lock", ".hydra/config.yaml", ".hydra/overrides.yaml")


@pytest.mark.parametrize("name", PLANTED)
def test_a_file_that_is_a_link_is_refused_before_anything_is_written(command, tmp_path, victim, name):
    planted = tmp_path / "run" / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(victim)
    code, _, told = command(*RECIPE)
    assert code == 2
    (line,) = told.splitlines()
    assert line.startswith(f"error: hydra.run.dir: got {planted} (a link that leads out of ")
    assert victim.read_text() == "precious\n"


@pytest.mark.parametrize("name", [".hydra", "checkpoints", "wandb"])
def test_a_folder_that_is_a_link_is_refused(command, tmp_path, victim, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(victim.parent)
    code, _, told = command(*RECIPE)
    assert code == 2
    assert "a link that leads out of" in told
    assert [path.name for path in victim.parent.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["run.log", ".hydra/config.yaml"])
def test_without_the_guard_they_are_followed(command, tmp_path, victim, monkeypatch, name):
    monkeypatch.setattr(composed_request, "outward_link", lambda folder: None)
    planted = tmp_path / "run" / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(victim)
    command(*RECIPE)
    assert victim.read_text() != "precious\n"


def test_a_sweep_with_a_link_in_a_cell_is_refused(command, tmp_path, victim):
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / "0" / "output.log").symlink_to(victim)
    code, _, told = command("--multirun", "data.limit=60", "seed=1,2", "tracker=none", "hydra.sweep.dir=sweep")
    assert code == 2
    assert told.startswith("error: hydra.sweep.dir: got ")
    assert victim.read_text() == "precious\n"


def test_the_projects_own_links_and_a_linked_run_folder_are_fine(command, tmp_path):
    assert command(*RECIPE, "trainer.save_every=1")[0] == 0
    assert (tmp_path / "run" / "checkpoints" / "best").is_symlink()
    (tmp_path / "link").symlink_to("run")
    assert outward_link(tmp_path / "link") is None
    assert command(*RECIPE[:-1], "hydra.run.dir=link")[0] == 0
    assert outward_link(tmp_path / "run") is None


def test_results_reports_and_exports_do_not_go_behind_links(command, tmp_path, victim, capsys):
    assert command(*RECIPE)[0] == 0
    run = tmp_path / "run"
    for name in ("inference", "export", "plots"):
        (run / name).symlink_to(victim.parent)
    assert infer.main([f"run={run}"]) == 2
    assert export.main([f"run={run}", "format=torch_export"]) == 2
    assert capsys.readouterr().err.count("nothing is written behind it") == 2
    with pytest.raises((RunError, RequestError), match="a link, behind which nothing is written"):
        write_report(run)
    assert [path.name for path in victim.parent.iterdir()] == ["precious"]


# Core dumps

CRASH = """
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from runner.disk import core_dumps
from runner.privacy.mechanism import key
if sys.argv[1] == "without the guard":
    key.disable_core_dumps = lambda: None
held = key.SecretKey.from_unsafe_seed(0) if sys.argv[1] == "no secret" else key.SecretKey(bytes(range(100, 132)))
print(resource.getrlimit(resource.RLIMIT_CORE)[0], open("/proc/self/coredump_filter").read().strip(), flush=True)
os.abort()
"""

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="core dumps as Linux makes them")


def crash(folder, which):
    """(limit, filter, was a core dumped, does it hold the key) of a process that ends by SIGABRT."""
    folder.mkdir()
    command, environment = [sys.executable, "-c", CRASH, which], os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = process.stdout.read().decode().split()
    process.stdout.close()
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -os.WTERMSIG(status)
    assert process.returncode == -signal.SIGABRT
    cores = [path for path in folder.iterdir() if path.name.startswith("core")]
    return said[0], int(said[1], 16), os.WCOREDUMP(status), any(bytes(range(100, 132)) in c.read_bytes() for c in cores)


@LINUX
def test_a_process_with_a_secret_key_leaves_no_core_dump(tmp_path):
    limit, kinds, dumped, holds_key = crash(tmp_path / "guarded", "guarded")
    assert (limit, kinds, holds_key) == ("0", 0, False)
    assert not dumped


@LINUX
def test_an_ordinary_process_and_one_without_the_guard_do(tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    kinds = int(Path("/proc/self/coredump_filter").read_text(), 16)
    for which in ("no secret", "without the guard"):
        limit, found, _, holds_key = crash(tmp_path / which, which)
        assert (int(limit), found) == (hard, kinds)
        pattern = Path("/proc/sys/kernel/core_pattern").read_text()
        if which == "without the guard" and hard == resource.RLIM_INFINITY and pattern.startswith("core") and kinds:
            assert holds_key, "the control: the key can be read in the dump"
