"""How a command ends when Python drops its Ctrl-C, and when its output goes nowhere."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.processes.command_end import run_command
from tests.conftest import ROOT

ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": ""}
START = """
import signal, sys, time, weakref
from runner.processes.command_end import run_command
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it

def ctrl_c(*_):
    signal.raise_signal(signal.SIGINT)

class Thing:
    pass

def command():
    {command}
    return 0

sys.exit({call})
"""
IN_A_CALLBACK = "thing = Thing(); kept = weakref.ref(thing, ctrl_c); del thing"
SWALLOWED = """
    try:
        ctrl_c()
    except BaseException:
        pass
"""
LOST = {
    "in the callback of a weak reference": f"{IN_A_CALLBACK}; time.sleep(60)",
    "in a library that takes every exception": f"{SWALLOWED}    time.sleep(60)",
    "in two such places": SWALLOWED + SWALLOWED.replace("ctrl_c()", "time.sleep(60)") + "    time.sleep(60)",
    "as a failure of a library's own": SWALLOWED.replace("pass", "raise AttributeError('half made') from None"),
    "with another one while the first is cleaned up": SWALLOWED.replace("except BaseException", "finally").replace(
        "pass", "ctrl_c()"
    ),
    "and what is cleaned up takes longer than one waits": SWALLOWED.replace("except BaseException", "finally").replace(
        "pass", "time.sleep(0.6); print('cleaned up')"
    ),
}
SAY = """
import sys
from runner.processes.command_end import run_command
sys.exit(run_command(lambda: print('x' * 100_000) or 0))
"""


def ended(code, **streams):
    return subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, timeout=90, **streams
    )


@pytest.mark.parametrize("how", LOST)
def test_a_ctrl_c_is_heard_also_where_it_is_lost(how):
    found = ended(START.format(command=LOST[how], call="run_command(command)"), stdout=subprocess.PIPE)
    assert (found.returncode, found.stderr) == (75, "interrupted\n")
    assert found.stdout == ("cleaned up\n" if "cleaned up takes" in how else "")


def test_a_second_ctrl_c_in_the_moment_of_the_answer_is_no_traceback():
    late = """
from runner.processes.keyboard_interrupt import Interruption
first = Interruption.answered
def answered(self):
    Interruption.answered = first
    ctrl_c()
Interruption.answered = answered
"""
    found = ended(
        START.format(command="ctrl_c()", call="run_command(command)").replace("def command", f"{late}def command")
    )
    assert (found.returncode, found.stderr) == (75, "interrupted\n")


def test_what_a_command_has_done_before_it_hears_is_done():
    found = ended(START.format(command=SWALLOWED, call="run_command(command)"))
    assert (found.returncode, found.stderr) == (0, "")


def test_python_alone_drops_it():
    found = ended(START.format(command=IN_A_CALLBACK, call="command()"))
    assert found.returncode == 0
    assert "Exception ignored in" in found.stderr


def test_handlers_are_as_before(capsys):
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in watched], sys.unraisablehook

    def command():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        raise KeyboardInterrupt

    assert run_command(lambda: run_command(command)) == 75
    assert before == ([signal.getsignal(number) for number in watched], sys.unraisablehook)
    assert capsys.readouterr().err == "interrupted\n"


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
    code = "from runner.processes.command_end import run_command; run_command(lambda: open('/nowhere/at/all'))"
    assert "FileNotFoundError" in ended(code).stderr


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_a_plan_replaces_neither_link_nor_pipe_nor_device(tmp_path, kind):
    import os
    import stat
    import threading

    from runner.commands.json_file import write_json_file

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
    write_json_file(str(target), {"a": 1})
    if kind == "link":
        assert target.is_symlink()
        assert real.read_text() == '{\n  "a": 1\n}\n'
    elif kind == "pipe":
        reader.join(60)
        assert read == ['{\n  "a": 1\n}\n']
        assert stat.S_ISFIFO(target.stat().st_mode)
    else:
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
