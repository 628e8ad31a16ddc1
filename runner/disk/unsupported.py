"""Missing features of a file system: each is warned of once, and work goes on with what is left.

Lustre without ``-o flock`` and NFS without its lock service have no locks, exFAT no symbolic links and no permissions,
some FUSE file systems no ``fsync`` of folders.
"""

from __future__ import annotations

import errno
import logging
import threading

log = logging.getLogger(__name__)

_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK", "EINVAL", "EPERM")
    if hasattr(errno, name)
}
_warned: list[str] = []
_one_at_a_time = threading.Lock()


def is_unsupported(error: OSError) -> bool:
    """Whether ``error`` says that the file system, rather than its state, does not let something be done."""
    return error.errno in _UNSUPPORTED


def warn_once(missing: str) -> None:
    """Say, once in this process, what is missing and what that means."""
    with _one_at_a_time:
        if missing in _warned:
            return
        _warned.append(missing)
    log.warning(missing)


def warned() -> tuple[str, ...]:
    """What has been told so far."""
    return tuple(_warned)
