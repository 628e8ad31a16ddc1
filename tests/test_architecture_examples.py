"""The examples of docs/architecture.md are done as written: each block goes to the file that its first line names."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BLOCKS = re.findall(r"```(?:yaml|python)\n# (\S+)\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.S)
OPTIONS = [name for name, _ in BLOCKS if name.startswith("conf/")]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_added_part_runs(tmp_path, name):
    for path, content in BLOCKS:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    _, group, file = name.split("/")
    option = file.removesuffix(".yaml")
    command = [sys.executable, "-m", "runner", "--config-dir", "conf", f"{group}={option}", "hydra.run.dir=out",
               "tracker=none", "data.limit=32", "trainer.steps=3", "data.batch_size=8"]  # fmt: skip
    if option == "shufflenet":
        command += ["data=synthetic", "data.image_size=32"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "RECIPE_RUNNER_TARGETS": "my_parts"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    chosen = run["plan"]["trainer"] if group == "trainer" else None
    plan = run["plan"]["semantic"]
    assert chosen == option or plan[group]["name"] in (option, "shufflenet_v2_x0_5")


def test_every_kind_of_example_is_there():
    assert {name.split("/")[1] for name in OPTIONS} == {"optimizer", "model", "scheduler", "data", "trainer"}
