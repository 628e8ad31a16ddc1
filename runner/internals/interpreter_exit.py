"""The end of the interpreter, without what takes long in it."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

from runner.internals.plain import plain_torch


def leave_process(code: int) -> NoReturn:
    """End this process with what was registered for its end, and without taking down every module.

    Libraries register such things as the removal of temporary folders.  With torch loaded the rest of the interpreter's
    own end takes half a second, and prints what extensions have left.
    """
    if plain_torch():
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def forget_interrupt() -> None:
    """Let ``python -m`` end with the exit code that it is given, though a Ctrl-C was answered.

    It remembers a Ctrl-C that came while a string was executed, as for each dataclass that is imported, and would end
    by SIGINT in place of the exit code.  Executing another string makes it forget.
    """
    exec("")
