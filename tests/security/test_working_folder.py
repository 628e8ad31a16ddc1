"""What lies in the folder that the runner is started in, and is read by the libraries and programs that it uses."""

import os
import shutil
import subprocess

import matplotlib as mpl
import numpy as np
import pytest

from runner.api.start_sweep import _fresh_results
from runner.inference import confusion_plot
from runner.records import repository
from runner.records.repository import describe_repository
from runner.report import style
from tests.security.stage import Stage

GIT = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(*arguments):
    subprocess.run([*GIT, *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """A repository with one file that was touched since, as an archive brings it, and a program of the stranger's."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    (tmp_path / "a").write_text("a")
    git("add", "a")
    git("commit", "--quiet", "--message=m")
    os.utime("a", (1, 1))
    program = tmp_path / "it.sh"
    program.write_text("#!/bin/sh\ntouch landed\n")
    program.chmod(0o755)
    return tmp_path


def a_monitor_of_files(folder):
    git("config", "core.fsmonitor", "./it.sh")
    return False


def a_filter(folder):
    git("config", "filter.it.clean", "./it.sh")
    (folder / ".git/info").mkdir(exist_ok=True)
    (folder / ".git/info/attributes").write_text("* filter=it\n")


def a_filter_in_a_file_that_is_included(folder):
    (folder / ".git/more").write_text('[filter "it"]\n\tprocess = ./it.sh\n\tclean = ./it.sh\n')
    git("config", "include.path", "more")
    (folder / ".gitattributes").write_text("* filter=it\n")


def a_filter_of_a_work_tree(folder):
    git("config", "extensions.worktreeConfig", "true")
    git("config", "--worktree", "filter.it.clean", "./it.sh")
    (folder / ".gitattributes").write_text("* filter=it\n")


def a_monitor_of_a_submodule(folder):
    git("init", "--quiet", "sub")
    git("-C", "sub", "commit", "--quiet", "--allow-empty", "--message=m")
    git("add", "sub")
    git("commit", "--quiet", "--message=sub")
    git("-C", "sub", "config", "core.fsmonitor", str(folder / "it.sh"))
    (folder / "sub/landing").touch()
    return False


def a_server_for_missing_objects(folder):
    git("config", "remote.it.url", "ssh://nowhere.invalid/it")
    git("config", "remote.it.promisor", "true")
    git("config", "core.sshCommand", "./it.sh")
    tree = subprocess.check_output(["git", "rev-parse", "HEAD^{tree}"], text=True).strip()
    (folder / ".git/objects" / tree[:2] / tree[2:]).unlink()


EACH = pytest.mark.parametrize(
    "bring",
    [
        a_monitor_of_files,
        a_filter,
        a_filter_in_a_file_that_is_included,
        a_filter_of_a_work_tree,
        a_monitor_of_a_submodule,
        a_server_for_missing_objects,
    ],
)


def landed(folder):
    return [path for path in folder.rglob("landed") if path.is_file()]


@NEEDS_GIT
@EACH
def test_no_program_that_a_repository_names_is_started(unpacked, bring):
    dirty = bring(unpacked)
    described = describe_repository()
    assert len(described["commit"]) == 40
    assert described["dirty"] is dirty
    assert not landed(unpacked)


@NEEDS_GIT
@EACH
def test_git_by_itself_starts_them(unpacked, bring, monkeypatch):
    def ask(*arguments):
        asked = (word for word in arguments if not word.startswith("--ignore-submodules"))
        return subprocess.run(["git", *asked], capture_output=True, text=True, timeout=20, check=False).stdout

    bring(unpacked)
    monkeypatch.setattr(repository, "_ask", ask)
    repository._ask("status", "--porcelain", "--untracked-files=no")
    assert landed(unpacked)


def result_folders(stage, *typed):
    asked = stage.ask("seeds=2", "tracker=none", "hydra.sweep.dir=it", "hydra/launcher=submitit_slurm", *typed)
    return _fresh_results(asked, [*typed])


def test_submitit_awaits_results_where_no_pickle_can_lie(tmp_path):
    pytest.importorskip("submitit")
    stage = Stage(tmp_path)
    first, second = (line for _ in range(2) for line in result_folders(stage))
    assert first != second
    assert first.startswith(f'hydra.launcher.submitit_folder="{tmp_path}/it/.submitit/')
    assert first.endswith('/%j"')
    assert result_folders(stage, "hydra.launcher.submitit_folder=mine") == []


def _report():
    with style.canvas(2.0) as (figure, axes):
        axes[0].set_title("$a$")
        style.finish(figure, "x", "x")


def _confusion():
    confusion_plot.draw_confusion(np.eye(2, dtype=np.int64), ["$a$", "b"], title="$x$")


@pytest.mark.parametrize("draw", [_report, _confusion])
def test_a_matplotlibrc_starts_no_tex(draw, tmp_path, monkeypatch):
    for name in ("latex", "dvipng"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'landed'}\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with mpl.rc_context({"text.usetex": True}):
        draw()
        assert not (tmp_path / "landed").exists()
        monkeypatch.delitem(style._RULES, "text.usetex")
        monkeypatch.setattr(mpl, "rc_context", _rc_context)
        with pytest.raises((RuntimeError, FileNotFoundError)):
            draw()
    assert (tmp_path / "landed").exists()


_context = mpl.rc_context


def _rc_context(rules):
    """Without the guard."""
    return _context({name: value for name, value in rules.items() if name != "text.usetex"})
