"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runner.config.errors import RequestError
from runner.disk.lock import acquire, release

LOCK_FILE = ".lock"


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` alone for the duration; what an ended or killed run has left does not count.

    Raises:
        RequestError: another run works there, or nothing can be written there.
    """
    path = run_dir / LOCK_FILE
    try:
        held = acquire(path)
    except BlockingIOError as error:
        raise RequestError("hydra.run.dir", run_dir, "a folder that no other run is working in") from error
    except OSError as error:
        raise RequestError("hydra.run.dir", run_dir, f"a folder that can be written ({error.strerror})") from error
    try:
        yield
    finally:
        release(path, held)
