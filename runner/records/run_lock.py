"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runner.disk.lock import acquire, is_held, release
from runner.errors import RequestError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` alone for the duration; what an ended or killed run has left does not count.

    Raises:
        RequestError: another run works there, or nothing can be written there.
    """
    with _held(run_dir, "hydra.run.dir", "run"):
        yield


@contextlib.contextmanager
def lock_sweep(sweep_dir: Path, *, private: bool) -> Iterator[None]:
    """Hold the folder of a grid alone for the duration, made where it is missing; for its owner's eyes if ``private``.

    Raises:
        RequestError: the same grid, or another, is at work there, or nothing can be written there.
    """
    with _held(sweep_dir, "hydra.sweep.dir", "sweep", made=0o700 if private else 0o777):
        yield


def is_at_work(folder: Path) -> bool:
    """Whether a run, or a grid, works in ``folder`` now; not where its lock cannot be read."""
    with contextlib.suppress(OSError):
        return is_held(folder / LOCK_FILE)
    return False


@contextlib.contextmanager
def _held(folder: Path, key: str, what: str, *, made: int | None = None) -> Iterator[None]:
    """Hold ``folder``, named by ``key``; ``made`` is the mode of one that may be missing, which goes if left empty."""
    path = folder / LOCK_FILE
    try:
        if made is not None:
            folder.mkdir(mode=made, parents=True, exist_ok=True)
        held = acquire(path)
    except BlockingIOError as error:
        by = f" ({error.filename} {error.strerror})" if error.filename else ""
        raise RequestError(key, folder, f"a folder that no other {what} is working in{by}") from error
    except OSError as error:
        raise RequestError(key, folder, f"a folder that can be written ({error.strerror})") from error
    try:
        yield
    finally:
        release(path, held)
        if made is not None:
            with contextlib.suppress(OSError):
                folder.rmdir()  # nothing came of it
