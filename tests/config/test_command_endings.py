"""How a command ends when Python drops its Ctrl-C, and when its output goes nowhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": ""}
DROPPED = """
import signal, sys, time, weakref
from runner.config.errors import answer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it

class Thing:
    pass

def command():
    thing = Thing()
    kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    time.sleep(60)
    return 0

sys.exit({call})
"""
SAY = "import sys; from runner.config.errors import answer; sys.exit(answer(lambda: print('x' * 100_000) or 0))"


def ended(code, **streams):
    return subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, timeout=90, **streams
    )


def test_a_ctrl_c_that_comes_while_a_weak_reference_calls_back_is_heard():
    found = ended(DROPPED.replace("{call}", "answer(command)"))
    assert (found.returncode, found.stderr) == (75, "interrupted\n")


def test_python_alone_drops_it():
    found = ended(DROPPED.replace("{call}", "command()").replace("time.sleep(60)", "pass"))
    assert found.returncode == 0
    assert "Exception ignored in" in found.stderr


def test_a_closed_pipe_is_no_traceback():
    with subprocess.Popen(["/bin/true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        found = ended(SAY, stdout=reader.stdin)
    assert (found.returncode, found.stderr) == (1, "")


def test_a_full_disk_below_standard_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        found = ended(SAY, stdout=full)
    assert found.returncode == 1
    assert found.stderr == "error: standard output: got No space left on device, expected a place that takes it\n"


def test_other_failures_of_the_system_are_not_taken_for_it():
    code = "from runner.config.errors import answer; answer(lambda: open('/nowhere/at/all'))"
    assert "FileNotFoundError" in ended(code).stderr


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_a_plan_replaces_neither_link_nor_pipe_nor_device(tmp_path, kind):
    import os
    import stat
    import threading

    from runner.estimate.command import _write_json

    target, real = tmp_path / "target", tmp_path / "real.json"
    read = []
    if kind == "link":
        real.write_text("old")
        target.symlink_to(real)
    elif kind == "pipe":
        os.mkfifo(target)
        reader = threading.Thread(target=lambda: read.append(target.read_text()))
        reader.start()
    else:
        target.symlink_to("/dev/null")
    _write_json(str(target), {"a": 1})
    if kind == "link":
        assert target.is_symlink()
        assert real.read_text() == '{\n  "a": 1\n}\n'
    elif kind == "pipe":
        reader.join(60)
        assert read == ['{\n  "a": 1\n}\n']
        assert stat.S_ISFIFO(target.stat().st_mode)
    else:
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
