"""The wheel works without the repository: configuration inside, console scripts, from any folder."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT


def test_an_installed_wheel_runs_from_any_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # -P keeps the working folder out, and the editable install of this repository comes after PYTHONPATH
    environment = os.environ | {"PYTHONPATH": str(site)}
    where = [sys.executable, "-P", "-c", "import runner; print(runner.__path__[0])"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(site / "runner")
    assert (site / "runner" / "py.typed").is_file()
    for script, *asked in (["ml-train", "hydra.run.dir=run"], ["recipe-runner", "--cfg", "job"]):
        command = [sys.executable, "-P", str(site / "bin" / script), "data.limit=32", "trainer.steps=2", "tracker=none",
                   *asked]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "completed"
    sweeps = [sys.executable, "-P", "-m", "runner", "sweep=precision", "--cfg", "job"]
    done = subprocess.run(sweeps, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
