"""Results appear whole, one command makes them at a time, and what a killed one leaves does not stay."""

import shutil
import signal
import subprocess
import sys

import pytest

from runner.commands import export, infer
from runner.errors import RequestError
from runner.inference import evaluation, exporting
from runner.inference.results_folder import results_folder
from tests.conftest import ROOT

KILLED = """
import sys, time
from pathlib import Path
from runner.inference.results_folder import results_folder
with results_folder(Path(sys.argv[1]), overwrite=False) as files:
    (files / "half").write_text("")
    print("working", flush=True)
    time.sleep(600)
"""


def test_one_command_at_a_time_and_the_first_one_keeps_the_folder(tmp_path):
    out = tmp_path / "new" / "out"
    with results_folder(out, overwrite=False) as files:
        for overwrite in (False, True):
            with (
                pytest.raises(
                    RequestError, match=r"^output: got .*out \(another command is writing it\), expected output="
                ),
                results_folder(out, overwrite=overwrite),
            ):
                pass
        (files / "inference.json").write_text("first")
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with pytest.raises(RequestError, match="there already"), results_folder(out, overwrite=False):
        pass
    assert (out / "inference.json").read_text() == "first"


def test_what_a_killed_command_has_left_is_removed_by_the_next_and_nothing_else_is(tmp_path):
    out = tmp_path / "out"
    owner = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout.readline() == "working\n"
    (left,) = tmp_path.glob(".out.*.tmp")
    with pytest.raises(RequestError), results_folder(out, overwrite=False):
        pass
    assert (left / "half").exists(), "its owner lives"
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert left.exists()
    others = [
        tmp_path / name for name in (".out.more.abcdefgh.tmp", ".ou.abcdefgh.tmp", ".out.tmp", "out.abcdefgh.tmp")
    ]
    replaced = tmp_path / ".out.0123abcd.old"  # killed while its results took the place of others
    for path in (*others, replaced):
        path.mkdir()
    with pytest.raises(KeyError), results_folder(out, overwrite=False):
        raise KeyError
    assert sorted(tmp_path.iterdir()) == sorted([*others, replaced]), "no new results yet: the old ones stay"
    with results_folder(out, overwrite=False):
        assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*others, out])


def test_overwrite_replaces_results_and_nothing_else(digits_run, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(digits_run, tmp_path / "run", symlinks=True)
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").write_bytes(b"")
    thesis = tmp_path / "thesis"
    (thesis / "compare").mkdir(parents=True)
    (thesis / "inference.json").write_text("{}")
    (thesis / "compare.csv").write_text("")
    (thesis / "compare" / "chapter.tex").write_text("")
    link = tmp_path / "link"
    link.symlink_to(images)
    before = sorted(tmp_path.rglob("*"))
    kept = (
        (run, "not with results"), (run / "checkpoints", "not with results"), (tmp_path, "not with results"),
        (images, "not with results"), (run / "run.json", "no folder"), (link, "no folder"),
        (thesis, "compare in it is none of its results"),
    )  # fmt: skip
    for folder, reason in kept:
        for command, words in ((infer, []), (infer, ["--compare"]), (export, ["format=torch_export"])):
            assert command.main([f"run={run}", f"output={folder}", "overwrite=true", *words]) == 2
            message = capsys.readouterr().err
            assert message == (
                f"error: output: got {folder} (there already, and {reason}),"
                " expected output=FOLDER, new or with such results to replace\n"
            )
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new", "new"):
        with results_folder(tmp_path / name, overwrite=True) as files:
            (files / "inference.json").write_text("{}")


@pytest.mark.parametrize(
    ("command", "module", "work", "words"),
    [
        (infer, evaluation, "open_run", []),
        (infer, evaluation, "open_run", ["--compare"]),
        (export, exporting, "_real_pixels", ["format=torch_export"]),
    ],
    ids=["infer", "compare", "export"],
)
def test_a_command_is_refused_before_it_works(digits_run, tmp_path, monkeypatch, capsys, command, module, work, words):
    monkeypatch.setattr(module, work, lambda *_: pytest.fail("it worked before it asked"))
    out = tmp_path / "out"
    with results_folder(out, overwrite=False):
        assert command.main([f"run={digits_run}", f"output={out}", *words]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: output: got {out} (another command is writing it)")
    assert message.count("\n") == 1
