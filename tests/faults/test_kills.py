"""The short form of ``make faults``: a few kills, and every negative control of the same recipes."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT

RECIPES = ("standard", "mixed_precision fp16", "dp")


def test_killed_runs_end_with_the_same_bits_and_what_is_left_out_is_seen(tmp_path):
    # a process of its own: this one may have threads, and what has threads should not be forked
    command = [sys.executable, "-m", "tests.faults.campaign", "--kills=2", "--json=figures.json", "--recipes", *RECIPES]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {figure["recipe"]: figure["equal"] for figure in figures["kills"]} == dict.fromkeys(RECIPES, 2)
    for found in figures["controls"].values():
        assert found.pop("nothing") == 0
        assert all(found.values()), found
