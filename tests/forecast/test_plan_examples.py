"""The commands of docs/plan.md are typed as they stand."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from runner.commands.plan import main
from tests.conftest import ROOT

COMMANDS = re.findall(r"^python -m runner plan (.*)$", (ROOT / "docs" / "plan.md").read_text(), re.M)


# a sweep forks its cells, which a process that has computed must not
@pytest.mark.parametrize("command", [command for command in COMMANDS if "-m" not in command.split()])
def test_an_example_of_the_docs_runs(command, tmp_path, capsys):
    with contextlib.chdir(tmp_path):
        assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out
    for written in tmp_path.glob("*.json"):
        assert json.loads(written.read_text())["forecast"]["price"]["expected"] > 0


def test_the_docs_show_each_way_to_ask():
    text = " ".join(COMMANDS)
    assert len(COMMANDS) == 4
    assert all(flag in text for flag in ("--no-probe", "--json", "--advise", "-m "))


def test_the_example_of_a_sweep_runs(tmp_path):
    (command,) = [command for command in COMMANDS if "-m" in command.split()]
    ended = subprocess.run(
        [sys.executable, "-m", "runner", "plan", "--json", "-", *shlex.split(command)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    found = json.loads(ended.stdout)
    assert found["cells"] == 2
    # seeds cost the same
    (kind,) = found["kinds"]
    assert kind["count"] == 2
    each = kind["plan"]["semantic"]["privacy"]["epsilon"]
    (together,) = found["privacy"]["publish_all"]
    assert together["cells"] == 2
    assert each < together["epsilon"] < 2 * each
    assert found["seconds"]["expected"] == pytest.approx(2 * kind["forecast"]["seconds"]["expected"])
