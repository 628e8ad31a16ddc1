"""What a process finds around it: closed descriptors, no home, odd names of folders; each command lives with it."""

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runner.config.compose import Composer
from runner.config.words.override_lines import refuse_undecoded
from runner.environment import home
from runner.environment.home import ensure_home, permanent_home
from runner.errors import RequestError
from runner.privacy.ledger.ledger import ledger_folder
from runner.processes.command_end import run_command
from tests.conftest import ROOT

CHILD = """
import os, subprocess, sys
from runner.environment import standard_streams as streams
{without}
from runner.processes.command_end import run_command
def act():
    place = os.open("made", os.O_WRONLY | os.O_CREAT)
    print("said")
    print("said", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "import os; [os.fstat(number) for number in range(3)]"], check=True)
    return 0 if place > 2 else 9
code = run_command(act)
os._exit(code)
"""


def closed(folder, without=""):
    """The exit code of a command that is started without standard streams."""
    (folder / "child.py").write_text(CHILD.format(without=without))
    script = f"exec {sys.executable} child.py >&- 2>&- <&-"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=environment, check=False, timeout=60).returncode


def test_closed_descriptors_change_nothing(tmp_path):
    assert closed(tmp_path) == 0
    assert (tmp_path / "made").read_bytes() == b""


def test_without_streams_a_file_takes_the_place_of_one(tmp_path):
    assert closed(tmp_path, "streams.open_streams.__code__ = (lambda: None).__code__") != 0


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    def nobody(number):
        raise KeyError(number)

    for name in ("HOME", "USER"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(home.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_who_has_no_home_gets_one_for_caches_and_none_for_the_ledger(homeless, capsys):
    with pytest.raises(RuntimeError):
        Path.home()
    assert run_command(lambda: 0) == 0
    made = homeless / f"recipe-runner-{os.getuid()}"
    assert Path.home() == made
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert capsys.readouterr().err.count("note: this user has no home folder") == 1
    assert permanent_home() is None
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir: got null, for a user without a home folder"):
        ledger_folder(None)
    assert ledger_folder("kept") == Path("kept")


def test_a_home_that_somebody_else_has_made_is_not_taken(homeless):
    made = homeless / f"recipe-runner-{os.getuid()}"
    made.symlink_to(homeless)
    ensure_home()
    assert Path.home() != made
    assert Path.home().name.startswith(made.name)
    assert permanent_home() is None


def test_a_home_that_is_only_a_name(homeless, monkeypatch):
    monkeypatch.setenv("HOME", str(homeless / "not" / "there"))
    ensure_home()
    assert Path.home().is_relative_to(homeless)
    assert permanent_home() is None


@pytest.mark.parametrize("name", ["a${b}c", "${oc.env:HOME}", "${"])
def test_a_working_folder_that_would_be_looked_up_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match=r"hydra.runtime.cwd: got .*, expected a folder without \$\{ in its name"):
        Composer(caller=tmp_path / name)


def test_other_odd_names_of_working_folders(tmp_path):
    folder = tmp_path / "a$b%{c},d=e'f\"g\\h [i] #j"
    folder.mkdir()
    composed = Composer(caller=folder).compose(["model=mlp"])
    assert composed.model.name == "mlp"


def test_a_run_folder_that_would_be_looked_up_is_refused(composer):
    with pytest.raises(RequestError, match=r"hydra.run.dir: got .*a\$\{b\}, expected a folder without"):
        composer.load(composer.compose(["hydra.run.dir='a\\${b}'"]))


@pytest.mark.parametrize("line", ["hydra.run.dir='caf\udce9'", "data.root=caf\udce9", "+hydra.sweep.dir=caf\udce9"])
def test_a_name_that_is_no_text_here_is_refused(composer, line):
    key = line.partition("=")[0].lstrip("+")
    with pytest.raises(RequestError, match=rf"^{key}: got .*, expected text in utf-8, the encoding of this process"):
        composer.parse([line])


def test_a_working_folder_whose_name_is_no_text_here_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"hydra.runtime.cwd: got .*, expected text in utf-8.*\(rename it\)"):
        Composer(caller=tmp_path / "caf\udce9")


def test_an_ascii_process_is_told_of_a_locale(monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(RequestError, match=r"expected text in ascii.*LC_ALL=C.UTF-8"):
        refuse_undecoded("data.root", os.fsencode("é").decode("ascii", "surrogateescape"))
    refuse_undecoded("data.root", "é")
