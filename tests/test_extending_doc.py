"""docs/extending.md is done as written: its package is built as a wheel, installed and trained, its module is found."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from runner.commands import infer
from runner.commands.train import main
from runner.config import plugins
from runner.config.compose import Composer
from runner.config.request.request import check_run, read_request
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
SHORT = ("tracker=none", "trainer.epochs=1", "data.limit=64", "data.batch_size=32", "hydra.run.dir=run")
COMMANDS = [shlex.split(line) for line in re.findall(r"^(?:RECIPE_RUNNER_TARGETS=|python -m runner).*", PAGE, re.M)]
OF_PLUGIN = [words[3:] for words in COMMANDS if words[:3] == ["python", "-m", "runner"]]
OF_MODULE = [words for words in COMMANDS if words[0].startswith("RECIPE_RUNNER_TARGETS=")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which the package of the page is installed, from a wheel."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "docs" / "examples" / "my_recipes", folder / "source")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(folder / "site"), str(folder / "source")], check=True)
    return folder / "site"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder; what is put on Python's path, and imported from there, is gone afterwards."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with contextlib.chdir(tmp_path):
        yield tmp_path
    plugins._read.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("my_recipes", "mymodel")]:
        del sys.modules[name]


def test_the_page_has_a_command_of_each_kind():
    assert len(OF_PLUGIN) == 3
    assert len(OF_MODULE) == 1


def test_the_package_is_found_trained_and_used_and_missed(site, here, monkeypatch, capsys):
    monkeypatch.syspath_prepend(site)
    experiment, model, question = OF_PLUGIN
    assert main([*experiment, *SHORT]) == 0
    run = json.loads((here / "run" / "run.json").read_text())
    semantic = run["plan"]["semantic"]
    assert [semantic[part]["name"] for part in ("data", "model", "optimizer")] == [
        "stripes",
        "tiny_conv",
        "sign_momentum",
    ]
    assert run["environment"]["plugins"] == {"my_recipes": "my-recipes 0.3"}
    assert infer.main(["run=run"]) == 0
    composer = Composer(caller=here)
    assert read_request(composer, model, multirun=False, check=check_run).configs[0].model.options == {"width": 16}
    cells = read_request(composer, question, multirun=False, check=check_run).configs
    assert [cell.optimizer.name for cell in cells] == ["sign_momentum", "adam"]
    assert main([*experiment, "model._target_=my_recipes.optimizers.SignMomentum", *SHORT]) == 2  # not of the kind
    # uninstalled
    monkeypatch.setattr(sys, "path", sys.path[1:])
    capsys.readouterr()
    missing = "got run (made with the plug-in my-recipes 0.3, which is not installed), expected that package"
    assert main(["resume=run"]) == 2
    assert infer.main(["run=run", "output=again"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[2].partition(":")[0].strip() for line in told] == ["resume", "run"]
    assert all(missing in line for line in told)


def test_a_module_of_the_working_folder_is_found(here, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n# mymodel.py\n(.*?)```", PAGE, re.S)
    (here / "mymodel.py").write_text(code)
    (variable, script, *words) = OF_MODULE[0]
    assert script == "recipe-runner"
    assert main([*words, *SHORT]) == 2
    assert f"{variable} in the environment, or the entry point" in capsys.readouterr().err
    monkeypatch.setenv(*variable.split("="))
    assert main([*words, *SHORT]) == 0
    assert infer.main(["run=run"]) == 0
