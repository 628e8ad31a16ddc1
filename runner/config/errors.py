"""How a command ends: its exit code, and one line for what is wrong with a request or failed on the way."""

from __future__ import annotations

import atexit
import difflib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NoReturn

from runner.config.home import have_a_home
from runner.config.interruption import Interruption, hearing
from runner.config.letters import take_any_letter
from runner.config.streams import open_streams


class ExitCode(IntEnum):
    """What the program answers to its caller."""

    DONE = 0
    FAILED = 1
    """A run failed on the way."""
    WRONG_REQUEST = 2
    """The request cannot be run as typed; nothing was started."""
    INTERRUPTED = 75
    """Stopped by a signal; the same command goes on, or begins again (EX_TEMPFAIL of sysexits.h)."""


class RequestError(ValueError):
    """A request that cannot be run as typed.  Ends the program with exit code 2 and the one line of ``str(self)``."""

    def __init__(
        self, key: str, got: object, expected: str, *, nearest: str | None = None, cell: str | None = None
    ) -> None:
        """``key`` is the dotted key at fault, ``nearest`` the valid name that the user probably meant.

        ``cell`` names the cell of a sweep whose request is wrong.
        """
        self.key = key
        self.got = got
        self.expected = expected
        self.nearest = nearest
        self.cell = cell
        super().__init__(key, got, expected, nearest, cell)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.key, self.got, self.expected, self.nearest, self.cell)

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        place = f" (in {self.cell})" if self.cell else ""
        line = f"{self.key}: got {as_typed(self.got)}, expected {self.expected}{hint}{place}"
        return " ".join(line.split())


def is_refusal(line: str | None) -> bool:
    """Whether ``line`` is what a ``RequestError`` says: what it is about was never begun."""
    return line is not None and re.match(r"[^ :]+: got .*, expected ", line) is not None


def _restore(key: str, got: object, expected: str, nearest: str | None, cell: str | None) -> RequestError:
    return RequestError(key, got, expected, nearest=nearest, cell=cell)


class RunError(RuntimeError):
    """A run that was right to start and failed on the way.  Ends the program with exit code 1 and one line."""


class EpsilonVoid(RunError):
    """A private run in which something was found that its epsilon rules out; what it has released is not covered."""


class TooFewExamples(RunError):
    """BatchNorm has no statistics of a single value a channel."""


def answer(action: Callable[[], int]) -> int:
    """The exit code of ``action``, a whole command; what is wrong ends as one line on standard error."""
    open_streams()
    have_a_home()
    take_any_letter()
    try:
        with hearing() as command:
            try:
                return _outcome(action, command)
            except KeyboardInterrupt:  # a second one, before the first was answered
                return _interrupted(command)
    finally:
        # ``python -m`` remembers a Ctrl-C that came while a string was executed, as for each dataclass imported, and
        # would end by SIGINT in place of the exit code.  Executing another one makes it forget.
        exec("")


def _outcome(action: Callable[[], int], command: Interruption) -> int:
    try:
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(command)
    except Exception as error:
        # a library may have taken the Ctrl-C for a failure of its own
        return _interrupted(command) if command.heard else _told(error)


def _interrupted(command: Interruption) -> int:
    command.answered()
    print("interrupted", file=sys.stderr)
    return ExitCode.INTERRUPTED


def _told(error: Exception) -> int:
    if isinstance(error, RequestError):
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.WRONG_REQUEST
    if isinstance(error, RunError):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return ExitCode.FAILED
    if isinstance(error, OSError) and _stdout_fails():
        return ExitCode.FAILED
    from runner.config.own_code import place_in_own_code

    if (place := place_in_own_code(error)) is not None:
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


def ending(code: int) -> int:
    """``code`` of a command that has been answered, with nothing left but Python's own end, which Ctrl-C ends too.

    In the middle of it ``KeyboardInterrupt`` would be a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def leave(code: int) -> NoReturn:
    """End this process, which has nothing left to do but what was registered for its end.

    Python would then take down every module: with torch among them that takes 0.4 s.
    """
    ending(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def as_typed(value: object) -> str:
    """``value`` as it would be typed on the command line: ``null``, ``true``, ``[1,2]``, and ``nothing`` for ''."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(as_typed(item) for item in value)}]"
    return str(value) or "nothing"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name among ``names`` most like ``name``, or None when none is alike."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None


_OUT_OF_MEMORY = (
    "out of memory",  # CUDA and MPS
    "can't allocate memory",  # torch's allocator on the CPU
    "bad_alloc",
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: torch uses a class of its own on CUDA alone."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
