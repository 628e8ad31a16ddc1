"""Installed packages that bring options, questions and targets: found without import, and broken ones harm nobody."""

import contextlib
import json
import sys
from importlib.metadata import PathDistribution

import pytest

from runner.commands.train import main
from runner.config import plugins, store
from runner.config.compose import Composer
from runner.config.plugins import installed_plugins
from runner.config.request.request import check_run, read_request
from runner.config.untrusted.targets import check_target, locate
from runner.errors import RequestError
from runner.records.plugins_used import plugins_used, require_plugins
from runner.records.run_file import RunRecord, write_run

NET = "from torch import nn\ndef net(*, in_channels, num_classes, image_size) -> nn.Module:\n    return nn.Identity()\n"
MODEL = "_target_: {package}.nets.net\nname: mine\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install("parts", {"conf/model/mine.yaml": ...}) puts a distribution of that package on Python's path."""
    site = tmp_path / "site"
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def install(package, files, *, entry=None, record=True, origin=None):
        written = [f"{package.replace('.', '/')}/{name}" for name in ("__init__.py", *files)]
        for name, text in zip(written, ("", *files.values()), strict=True):
            file = site / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.format(package=package))
        info = site / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: its-{package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[recipe_runner.plugins]\nit = {entry or package}\n")
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in written) if record else "it.pth,,\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        plugins._read.cache_clear()

    yield install
    plugins._read.cache_clear()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("parts", "others"):
            del sys.modules[name]


@pytest.fixture
def compose(tmp_path):
    """compose("model=mine") -> (the configuration, the notes)."""

    def compose(*lines, extra=None):
        composer = Composer(caller=tmp_path, extra=extra)
        return composer.compose(lines), list(composer.notes)

    return compose


def refused(call, *arguments):
    with pytest.raises(RequestError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_options_questions_and_targets_are_found(install, compose, tmp_path):
    question = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      model: mine,linear\n"
    install("parts", {"nets.py": NET, "conf/model/mine.yaml": MODEL, "sweeps/which.yaml": question})
    config, notes = compose("model=mine")
    assert (config.model._target_, notes) == ("parts.nets.net", [])
    assert "parts" not in sys.modules  # nothing is imported before it is needed
    check_target("model", "parts.nets.net")
    assert locate("model", "parts.nets.net").__module__ == "parts.nets"
    composer = Composer(caller=tmp_path)
    assert "mine" in composer.options("model")
    request = read_request(composer, ["sweep=which", "hydra.sweep.dir=it"], multirun=False, check=check_run)
    assert [run.model.name for run in request.configs] == ["mine", "linear"]


def test_help_lists_what_is_brought(install, tmp_path, capsys):
    install("parts", {"conf/model/a_model_of_mine.yaml": MODEL})
    with contextlib.chdir(tmp_path):
        assert main(["--help"]) == 0
    assert "a_model_of_mine" in capsys.readouterr().out


BROKEN = {
    "there is no package nowhere": ({"conf/model/mine.yaml": MODEL}, "nowhere"),
    'names no package, as it = "my_package" does': ({"conf/model/mine.yaml": MODEL}, "parts:plugin"),
    "asyncio, which its entry point it names, is not one of its own packages": ({}, "asyncio"),
    "torch, which its entry point it names, is not one of its own packages": ({}, "torch"),
    "parts holds no options": ({"nets.py": NET}, None),
    "conf/sweep/mine.yaml is a question, whose place is sweeps/": ({"conf/sweep/mine.yaml": ""}, None),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_one_is_told_and_leaves_the_rest_alone(install, compose, tmp_path, capsys, reason):
    files, entry = BROKEN[reason]
    install("parts", files, entry=entry)
    _, notes = compose("model=linear")
    (told,) = notes
    assert told.startswith("the plug-in its-parts 1.0 is left out: ")
    assert reason in told
    assert told in refused(compose, "model=mine")
    with contextlib.chdir(tmp_path):
        assert main(["--help"]) == 0
    assert capsys.readouterr().err == f"note: {told}\n"


def test_no_package_of_others_becomes_a_root(install, monkeypatch):
    install("parts", {}, entry="asyncio")
    line = refused(check_target, "model", "asyncio.run")
    assert "the plug-in its-parts 1.0 is left out: asyncio" in line
    monkeypatch.setattr(plugins, "_plugin", lambda entry: plugins.Plugin(
        name="its-parts", version="1.0", package=entry.value, folder=plugins._folder(entry.value),
        options=frozenset(), questions={}))  # fmt: skip
    plugins._read.cache_clear()
    assert locate("model", "asyncio.run").__name__ == "run"  # what the check of its origin keeps out


def test_an_editable_install_lists_no_files(install, tmp_path):
    files = {"conf/model/mine.yaml": MODEL}
    install("parts", files, record=False, origin={"url": f"file://{tmp_path}/site", "dir_info": {"editable": True}})
    install("others", files, record=False, origin={"url": "file:///elsewhere", "dir_info": {"editable": True}})
    assert [plugin.package for plugin in installed_plugins().plugins] == ["parts"]
    assert list(installed_plugins().broken) == ["others"]


def test_what_two_bring_is_refused_where_it_is_asked_for(install, compose, tmp_path):
    recipe = "# @package _global_\ndefaults:\n  - override /model: mine\n"
    files = {"conf/model/mine.yaml": MODEL, "sweeps/which.yaml": "# @package _global_\nseed: 1\n"}
    install("parts", files | {"conf/experiment/it.yaml": recipe})
    install("others", files)
    assert compose("model=linear")[1] == []
    both = "which the plug-in its-others 1.0 and the plug-in its-parts 1.0 bring, expected one of them uninstalled"
    for line in ("model=mine", "experiment=it"):
        assert refused(compose, line) == f"model: got mine, {both}"
    assert refused(compose, "sweep=which") == f"sweep: got which, {both}"
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "which.yaml").write_text("# @package _global_\nseed: 2\n")
    assert compose("sweep=which")[0].seed == 2


def test_a_shipped_option_stays_what_it_is(install, compose, tmp_path):
    install("parts", {"conf/model/linear.yaml": MODEL, "conf/model/mine.yaml": MODEL})
    assert compose("model=mlp")[1] == []
    config, notes = compose("model=linear")
    assert config.model._target_.startswith("runner.")
    assert notes == ["model=linear is the shipped option, not that of the plug-in its-parts 1.0"]
    typed = tmp_path / "typed" / "model"
    typed.mkdir(parents=True)
    for name in ("mine", "mlp", "own"):
        (typed / f"{name}.yaml").write_text("_target_: runner.models.dense.linear\nname: typed\n")
    config, notes = compose("model=mine", extra=typed.parent)
    assert config.model.name == "mine"
    assert notes == [f"model=mine is that of the plug-in its-parts 1.0, not {typed}/mine.yaml"]
    assert compose("model=mlp", extra=typed.parent)[1] == [f"model=mlp is the shipped option, not {typed}/mlp.yaml"]
    assert compose("model=own", extra=typed.parent)[1] == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "hydra.yaml",
            "# @package _global_\nhydra:\n  callbacks:\n    it:\n      _target_: parts.nets.net\n",
            "callbacks",
        ),
        ("env.yaml", "# @package _global_\nmodel:\n  name: ${{oc.env:HOME}}\n", "reads the environment is typed"),
        ("call.yaml", "_target_: subprocess.call\nname: it\n", "model._target_: got subprocess.call"),
        ("other.yaml", "_target_: others.nets.net\nname: it\n", "RECIPE_RUNNER_TARGETS=others in the environment, or"),
        ("kind.yaml", "_target_: parts.nets.NUMBER\nname: it\n", "cannot be called"),
    ],
)
def test_what_its_files_may_not_say(install, tmp_path, name, text, says):
    install("parts", {"nets.py": NET + "NUMBER = 3\n", f"conf/model/{name}": text})

    def ask():
        composer = Composer(caller=tmp_path)
        line = f"model={name.removesuffix('.yaml')}"
        (config,) = read_request(composer, [line], multirun=False, check=check_run).configs
        locate("model", config.model.target)

    assert says in refused(ask)
    assert not [pattern for pattern in store.whitelist() if "parts" in pattern]


def test_a_module_that_cannot_be_imported_is_told_with_its_plug_in(install, compose):
    install("parts", {"nets.py": "import not_there\n", "conf/model/mine.yaml": MODEL})
    assert compose("model=mine")[1] == []
    line = refused(locate, "model", "parts.nets.net")
    assert "got parts.nets.net of the plug-in its-parts 1.0" in line
    assert "No module named 'not_there'" in line
    assert "nets.py, line 1" in line


def begun(folder, choices):
    (folder / ".hydra").mkdir(parents=True)
    hydra = {"hydra": {"runtime": {"choices": choices, "cwd": str(folder)}}}
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps(hydra))
    return folder


def test_a_run_keeps_which_it_leaned_on(install, configure, tmp_path, monkeypatch):
    install("parts", {"nets.py": NET, "conf/model/linear.yaml": MODEL, "sweeps/which.yaml": ""})
    install("others", {"conf/model/theirs.yaml": "_target_: runner.models.dense.linear\nname: theirs\n"})
    config = configure("model=linear")
    assert plugins_used(config, begun(tmp_path / "a", {"model": "linear"})) == {}  # the shipped one
    assert plugins_used(config, begun(tmp_path / "b", {"model": "theirs"})) == {"others": "its-others 1.0"}
    assert plugins_used(config, begun(tmp_path / "c", {"sweep": "which"})) == {"parts": "its-parts 1.0"}
    config.model.target = "parts.nets.net"
    assert plugins_used(config) == {"parts": "its-parts 1.0"}
    used = {"parts": "its-parts 1.0", "others": "its-others 1.0"}
    write_run(tmp_path / "a", RunRecord(name="a", status="running", environment={"plugins": used}))
    require_plugins(tmp_path / "a", "resume")
    monkeypatch.setattr(sys, "path", sys.path[1:])
    line = f"resume: got {tmp_path}/a (made with the plug-in its-parts 1.0, which is not installed), expected"
    assert refused(require_plugins, tmp_path / "a", "resume").startswith(line)
    # its model is the runner's own: nothing of the plug-in is needed to use it
    config.model.target = "runner.models.dense.linear"
    require_plugins(tmp_path / "a", "run", config)
    config.model.target = "others.nets.net"
    assert "its-others 1.0" in refused(require_plugins, tmp_path / "a", "run", config)


def test_discovery_reads_the_path_once(install, monkeypatch):
    install("parts", {"conf/model/mine.yaml": MODEL})
    installed_plugins()
    monkeypatch.setattr(PathDistribution, "read_text", lambda *_: pytest.fail("read again"))
    assert [str(plugin) for plugin in installed_plugins().plugins] == ["the plug-in its-parts 1.0"]
