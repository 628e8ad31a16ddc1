"""The end of a command: its exit code, and one line on standard error for whatever went wrong."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from runner.config.untrusted.user_code import location_in_user_code
from runner.environment.home import ensure_home
from runner.environment.launchers import adopt_launch, ignore_launcher, is_first, launched
from runner.environment.standard_streams import open_streams
from runner.environment.text_encoding import escape_unencodable
from runner.error_texts import is_out_of_memory
from runner.errors import ExitCode, RequestError, RunError
from runner.internals.interpreter_exit import forget_interrupt, leave_process
from runner.internals.plain import plain_torch
from runner.processes.keyboard_interrupt import Interruption, hearing


def run_command(action: Callable[[], int]) -> int:
    """The exit code of ``action``, a whole command; what is wrong ends as one line on standard error."""
    open_streams()
    ensure_home()
    escape_unencodable()
    try:
        with hearing() as command:
            try:
                return _outcome(action, command)
            except KeyboardInterrupt:  # a second one, before the first was answered
                return _interrupted(command)
    finally:
        forget_interrupt()


def run_single_process_command(action: Callable[[], int]) -> int:
    """``run_command`` in the first process of a launch alone; the other processes end."""

    def act() -> int:
        adopt_launch()
        if not is_first():
            return ExitCode.DONE
        if launched():
            others = ignore_launcher() - 1
            print(f"note: this command works in one process; {others} more that were launched end now", file=sys.stderr)
        return action()

    return run_command(act)


def _outcome(action: Callable[[], int], command: Interruption) -> int:
    try:
        plain_torch()  # refuses a value that it cannot have
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(command)
    except Exception as error:
        # a library may have taken the Ctrl-C for a failure of its own
        return _interrupted(command) if command.heard else _report_error(error)


def _interrupted(command: Interruption) -> int:
    command.answered()
    print("interrupted", file=sys.stderr)
    return ExitCode.INTERRUPTED


def _report_error(error: Exception) -> int:
    if isinstance(error, RequestError):
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.WRONG_REQUEST
    if isinstance(error, RunError):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return ExitCode.FAILED
    if isinstance(error, OSError) and _stdout_fails():
        return ExitCode.FAILED
    if (place := location_in_user_code(error)) is not None:
        print(f"error: {type(error).__name__}: {' '.join(str(error).split())} ({place})", file=sys.stderr)
        return ExitCode.FAILED
    if is_out_of_memory(error):
        print(f"error: out of memory ({' '.join(str(error).split()) or type(error).__name__})", file=sys.stderr)
        return ExitCode.FAILED
    raise error


def _stdout_fails() -> bool:
    """Whether standard output takes nothing any more; what is left for it is dropped then, and a full disk is told."""
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")  # what failed may be gone from the buffer
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # who closes a pipe, as head does, wants no more words
        if not isinstance(error, BrokenPipeError):
            print(f"error: standard output: got {error.strerror}, expected a place that takes it", file=sys.stderr)
        return True
    return False


def prepare_exit(code: int) -> int:
    """``code`` of a command that has been answered, with nothing left but Python's own end, which Ctrl-C ends too.

    In the middle of it ``KeyboardInterrupt`` would be a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def exit_process(code: int) -> NoReturn:
    """End this process, which has nothing left to do but what was registered for its end.

    Python would then take down every module: with torch among them that takes 0.4 s.
    """
    prepare_exit(code)
    leave_process(code)
