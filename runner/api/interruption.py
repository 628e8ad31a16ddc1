"""Ctrl-C in a call from Python: what goes on afterwards is the caller."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from runner.processes.keyboard_interrupt import hearing

Answer = TypeVar("Answer")


def interruptible(act: Callable[[], Answer]) -> Answer | None:
    """What ``act`` returns; None where it was interrupted before it could say so itself."""
    try:
        with hearing(ends_process=False) as command:
            try:
                return act()
            except Exception:
                if command.heard:  # a library took the Ctrl-C for a failure of its own
                    return None
                raise
    except KeyboardInterrupt:
        return None


def tell_interrupted(again: str | None) -> None:
    """Say what was interrupted, and the call ``again`` by which it goes on; None where nothing had begun."""
    print(f"interrupted; goes on with: {again}" if again else "interrupted", file=sys.stderr)
