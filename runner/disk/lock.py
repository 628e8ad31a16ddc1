"""Locks that end with their owner, however it ends: of a file that is there anyway, or of a file of their own.

The kernel's own (``flock``) is used where the file system has it.  Where it has not, a file that only one process can
have made stands for the lock, with the process and host that made it in it, so that one whose owner has ended on this
host does not count; of another host nobody can tell, and its file has to be removed by hand.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runner.disk.links import NO_FOLLOW
from runner.disk.unsupported import is_unsupported, warn_once

if TYPE_CHECKING:
    from filelock import SoftFileLock

_LOOK_SECONDS = 1.0
"""Time between two looks at whether the process that is waited for has ended."""

_NO_LOCKS = (
    "the file system of {folder} has no locks: files named {name} stand for them, which hold processes of one host"
    " apart; one that a host has left behind when it stopped is to be removed by hand"
)


class Held:
    """A lock that this process holds."""

    def __init__(self, handle: int, soft: SoftFileLock | None) -> None:
        self._handle = handle
        self._soft = soft

    def close(self) -> None:
        """Give it back."""
        if self._soft is not None:
            self._soft.release()
        os.close(self._handle)


def acquire(path: Path) -> Held:
    """Hold ``path``, made where it is missing, alone; what gives it back.

    What an ended or killed owner has left does not count.

    Raises:
        BlockingIOError: another process holds it; names the file that stands for the lock where there are none.
        OSError: it cannot be made.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | NO_FOLLOW, 0o644)
        try:
            soft = _lock(handle, path, shared=False, wait=False)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return Held(handle, soft)
            Held(handle, soft).close()
        except FileNotFoundError:
            os.close(handle)  # removed by its owner between the two lines: try again
        except OSError:
            os.close(handle)
            raise


def release(path: Path, held: Held) -> None:
    """Give back what ``acquire`` gave, and remove the file."""
    # While it is still held: whoever has opened this file in the meantime finds that it is no longer the lock.
    path.unlink(missing_ok=True)
    held.close()


def is_held(path: Path) -> bool:
    """Whether a process holds ``path`` now; nothing is made and nothing changed.

    Raises:
        OSError: it cannot be read.
    """
    import fcntl  # as in _lock

    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | NO_FOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if not is_unsupported(error):
            raise
        return _soft_name(path).exists()
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def locked(handle: int, path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for the open file ``handle`` of ``path``, and hold it; the kernel's lock ends when ``handle`` is closed.

    ``shared`` with others who only read; without the kernel's locks readers wait for each other too.

    Raises:
        OSError: it cannot be locked in any way.
    """
    soft = _lock(handle, path, shared=shared, wait=True)
    try:
        yield
    finally:
        if soft is not None:
            soft.release()


def _lock(handle: int, path: Path, *, shared: bool, wait: bool) -> SoftFileLock | None:
    import fcntl  # not on Windows, where this module can be imported nevertheless

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if not is_unsupported(error):
            raise
        return _soft(path, wait=wait)
    return None


def _soft(path: Path, *, wait: bool) -> SoftFileLock:
    from filelock import SoftFileLock, Timeout

    name = _soft_name(path)
    warn_once(_NO_LOCKS.format(folder=path.parent, name=name.name))
    soft = SoftFileLock(name, mode=0o644, thread_local=False)
    while True:
        try:
            soft.acquire(timeout=_LOOK_SECONDS if wait else 0)
        except Timeout as error:
            if not (_remove_abandoned(name, SoftFileLock) or wait):
                raise BlockingIOError(errno.EAGAIN, "stands for the lock of another process", str(name)) from error
        else:
            return soft


def _soft_name(path: Path) -> Path:
    return path.with_name(f"{path.name if path.name.startswith('.') else f'.{path.name}'}.held")


def _remove_abandoned(name: Path, soft: type[SoftFileLock]) -> bool:
    """Remove the file ``name`` where the process of this host that made it has ended; whether it is gone.

    filelock does so itself where the file system exchanges two names in one step, which NFS and FUSE do not.  Here one
    process at a time looks and removes, so that none removes what another has made in the meantime.
    """
    guard = name.with_name(f"{name.name}.removal")
    try:
        with soft(guard, timeout=0, mode=0o644, thread_local=False):
            process, host = _owner(name)
            if host != _owner(guard)[1] or _is_alive(process):
                return False
            name.unlink()
    except FileNotFoundError:
        return True  # given back in the meantime
    except (TimeoutError, ValueError, OverflowError):  # another looks, or the file is no such file
        return False
    return True


def _owner(name: Path) -> tuple[int, str]:
    """Process and host, PID namespace included, that a file of filelock's names; ``ValueError`` for another file."""
    process, host, *_ = name.read_text().splitlines()
    return int(process), host


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True
