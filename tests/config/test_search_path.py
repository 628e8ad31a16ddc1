"""``hydra.searchpath`` without ``--config-dir``: folders and packages, typed once or twice, for every command."""

import contextlib
import sys

import pytest

from runner.audit import request as audit_request
from runner.commands.train import main
from runner.config.compose import Composer
from runner.config.request.search_path import searched, with_last_search_path
from runner.errors import RequestError

CALLBACK = "# @package _global_\nhydra:\n  callbacks:\n    it:\n      _target_: far_parts.It\n"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders a and b, of which each brings a model; a package far_parts.conf brings one that may not be."""
    for name in ("a", "b", "far_parts/conf"):
        (tmp_path / name / "model").mkdir(parents=True)
        text = f"_target_: runner.models.dense.mlp\nname: of_{name[0]}\n"
        (tmp_path / name / "model" / f"of_{name[0]}.yaml").write_text(text)
    (tmp_path / "far_parts" / "conf" / "model" / "sly.yaml").write_text(CALLBACK)
    for package in ("far_parts", "far_parts/conf"):
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with contextlib.chdir(tmp_path):
        yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "far_parts"]:
        del sys.modules[name]


@pytest.mark.parametrize("place", ["a", "file://{here}/a", "{here}/a"])
def test_each_form_of_a_folder_works_on_the_command_line(folders, capsys, place):
    line = f"hydra.searchpath=['{place.format(here=folders)}']"
    assert main([line, "model=of_a", "--cfg", "job", "--package", "model"]) == 0
    assert "name: of_a" in capsys.readouterr().out


def test_a_package_is_searched_and_its_files_are_looked_at(folders):
    composer = Composer(caller=folders, search=["pkg://far_parts.conf"])
    line = "hydra.searchpath=[pkg://far_parts.conf]"
    assert composer.compose([line, "model=of_f"]).model.name == "of_f"
    with pytest.raises(RequestError, match=r"hydra.callbacks.it._target_: got far_parts.It in pkg://far_parts.conf"):
        composer.compose([line, "model=sly"])


@pytest.mark.parametrize("place", ["nowhere", "file:///nowhere", "pkg://nowhere.conf", "pkg://a"])
def test_a_place_that_is_not_there_is_the_cause_that_is_told(folders, capsys, place):
    assert main([f"hydra.searchpath=['{place}']", "model=of_a"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: hydra.searchpath: got {place.removeprefix('file://')}, expected folders that exist")


def test_of_two_the_later_counts_as_is_told(folders, capsys):
    both = ["hydra.searchpath=[a]", "hydra.searchpath=[b]"]
    assert main([*both, "model=of_b", "--cfg", "job", "--package", "model"]) == 0
    out, err = capsys.readouterr()
    assert "name: of_b" in out
    assert "given as [a] and then as [b], which counts" in err
    assert with_last_search_path(["seed=1", *both]) == ["seed=1", "hydra.searchpath=[b]"]
    # Hydra by itself takes the first
    with pytest.raises(RequestError, match="Could not find 'model/of_b'"):
        Composer(caller=folders, search=searched(both)).compose([*both, "model=of_b"])


def test_an_audit_searches_too(folders):
    asked = audit_request.read_request(["hydra.searchpath=[a]", "model=of_a", "privacy.epsilon=2"])
    assert asked.config.model.name == "of_a"
