"""A file that one process at a time holds, until it gives it back or ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from runner.disk.links import NO_FOLLOW


def acquire(path: Path) -> int:
    """Hold ``path``, made where it is missing, alone; what gives it back.

    What an ended or killed owner has left does not count.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made.
    """
    import fcntl  # not on Windows, where this module can be imported nevertheless

    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | NO_FOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass  # removed by its owner between the two lines: try again
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def release(path: Path, handle: int) -> None:
    """Give back what ``acquire`` gave, and remove the file."""
    # While it is still held: whoever has opened this file in the meantime finds that it is no longer the lock.
    path.unlink(missing_ok=True)
    os.close(handle)
