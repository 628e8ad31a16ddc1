"""What docs/sweeps.md says is so: its commands may start, its file is a sweep, its questions exist."""

import re
import shlex

import pytest

from runner.config.compose import Composer
from runner.config.request.request import read_request
from runner.config.rules.rules import check
from runner.config.store import shipped
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "sweeps.md").read_text()
COMMANDS = re.findall(r"^python -m runner (?!report )(.+)$", PAGE, re.M)
LAUNCHERS = re.findall(r"`hydra/launcher=(\w+)`", PAGE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_sweeps_that_may_start(composer, command):
    words = [word for word in shlex.split(command) if word != "--multirun"]
    request = read_request(composer, words, multirun="--multirun" in command, check=check)
    assert request.multirun
    assert request.cells > 1


def test_the_file_is_a_grid_with_a_cell_beside_it(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (text,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.S)
    (tmp_path / "sweeps" / "mine.yaml").write_text(text)
    cells = []
    request = read_request(Composer(caller=tmp_path), ["sweep=mine"], multirun=False, check=cells.append)
    assert request.cells == len(cells) == 5
    assert [cell.model.name for cell in cells] == ["small_cnn"] * 4 + ["mlp"]
    assert {cell.trainer.epochs for cell in cells} == {10}


def test_every_grid_that_is_shipped_is_in_the_table_and_asked():
    rows = set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.M))
    grids = {path.stem for path in shipped("sweeps").glob("*.yaml") if not path.stem.startswith("optuna_")}
    assert rows == grids == {word.removeprefix("sweep=") for word in COMMANDS if "sweep=" in word and " " not in word}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_launchers_are_known(composer, launcher):
    assert launcher in composer.options("hydra/launcher")
