"""Whoever asks a command to end is answered from its first line on, and the process is as before in the end."""

import logging
import os
import signal
import time

import pytest

from runner.errors import ExitCode
from runner.processes import keyboard_interrupt
from runner.processes.command_end import run_command
from runner.processes.signals import WATCHED


@pytest.fixture(autouse=True)
def usual_handlers():
    """Those of a program that is started on a terminal: a shell has what it starts beside itself ignore Ctrl-C."""
    before = {each: signal.getsignal(each) for each in WATCHED}
    for each in WATCHED:
        signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", WATCHED, ids=lambda number: number.name)
def test_a_command_that_is_asked_to_end(number, capsys):
    def act():
        os.kill(os.getpid(), number)
        time.sleep(5)
        return ExitCode.DONE

    assert run_command(act) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    after = [signal.getsignal(each) for each in WATCHED]
    assert [handler for handler in after if handler != signal.SIG_DFL] in ([], [signal.default_int_handler])


def test_what_is_ignored_or_handled_stays_so():
    heard = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGUSR2, lambda *seen: heard.append(1))

    def act():
        os.kill(os.getpid(), signal.SIGHUP)  # as under nohup
        os.kill(os.getpid(), signal.SIGUSR2)  # as submitit
        return ExitCode.DONE

    try:
        assert run_command(act) == ExitCode.DONE
        assert heard == [1]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_without_the_handlers_it_would_die(monkeypatch):
    monkeypatch.setattr(keyboard_interrupt, "WATCHED", (signal.SIGINT,))
    child = os.fork()
    if child == 0:
        run_command(lambda: os.kill(os.getpid(), signal.SIGTERM) or 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


class Insisting(logging.Handler):
    """Asks its process to end while it writes, which takes ``seconds``."""

    def __init__(self, number, seconds):
        super().__init__()
        self.number, self.seconds, self.written = number, seconds, []

    def emit(self, record):
        os.kill(os.getpid(), self.number)
        time.sleep(self.seconds)
        self.written.append(record.getMessage())


def told_while_it_logs(number, seconds=0.05):
    """What is written by a command that is asked to end while it logs."""
    handler, logger = Insisting(number, seconds), logging.getLogger(__name__)

    def act():
        logger.error("a line")
        time.sleep(5)

    logger.addHandler(handler)
    try:
        assert run_command(act) == ExitCode.INTERRUPTED
    finally:
        logger.removeHandler(handler)
    return handler.written


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_logging_is_left_before_a_command_ends(number):
    """Its lock would be left taken if an exception came between the lines that take and give it back."""
    assert told_while_it_logs(number) == ["a line"]


def test_a_line_that_cannot_be_written_is_not_waited_for():
    began = time.monotonic()
    assert told_while_it_logs(signal.SIGINT, seconds=60) == []
    assert time.monotonic() - began < 30


def test_without_waiting_logging_is_cut_short(monkeypatch):
    monkeypatch.setattr(keyboard_interrupt, "postpone_inside_logging", lambda number, frame: False)
    assert told_while_it_logs(signal.SIGINT) == []
