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


@contextlib.contextmanager
def lock_sweep(sweep_dir: Path, *, private: bool) -> Iterator[None]:
    """Hold the folder of a grid alone for the duration, made where it is missing; for its owner's eyes if ``private``.

    Raises:
        RequestError: the same grid, or another, is at work there, or nothing can be written there.
    """
    path = sweep_dir / LOCK_FILE
    try:
        sweep_dir.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
        handle = acquire(path)
    except BlockingIOError as error:
        raise RequestError("hydra.sweep.dir", sweep_dir, "a folder that no other sweep is working in") from error
    except OSError as error:
        raise RequestError("hydra.sweep.dir", sweep_dir, f"a folder that can be written ({error.strerror})") from error
    try:
        yield
    finally:
        release(path, handle)
        with contextlib.suppress(OSError):
            sweep_dir.rmdir()  # nothing came of it
