"""Disabling core dumps for processes that hold a secret."""

from __future__ import annotations

import contextlib
from pathlib import Path

_FILTER = Path("/proc/self/coredump_filter")


def disable_core_dumps() -> None:
    """From now on, a crash of this process, or of one that it starts, writes none of its memory into a core dump.

    Two settings, because either alone has a gap: a limit of 0 bytes (``RLIMIT_CORE``), which does not hold where
    dumps are piped to a program (core(5)), and an empty list of what is dumped (``/proc/self/coredump_filter``), which
    some containers do not let one write.  The process stays open to a debugger that its user attaches, which can read
    its memory, as can root; swap and hibernation are not covered either.
    """
    try:
        import resource
    except ImportError:  # Windows, which keeps no such limit
        return
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with contextlib.suppress(OSError):
        _FILTER.write_text("0")
