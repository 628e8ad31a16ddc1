"""One run at a time in a folder: a lock that the operating system drops when its owner ends, however it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from runner.config.errors import RequestError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` alone for the duration; what an ended or killed run has left does not count.

    Raises:
        RequestError: another run works there, or nothing can be written there.
    """
    path = run_dir / LOCK_FILE
    handle = _acquire(path)
    try:
        yield
    finally:
        # While it is still held: whoever has opened this file in the meantime finds that it is no longer the lock.
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path) -> int:
    import fcntl  # not on Windows, where this module can be imported nevertheless

    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RequestError(
                "hydra.run.dir", path.parent, f"a folder that can be written ({error.strerror})"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise RequestError("hydra.run.dir", path.parent, "a folder that no other run is working in") from error
        except FileNotFoundError:
            pass  # removed by its owner between the two lines: try again
        os.close(handle)
