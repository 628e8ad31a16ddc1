"""Ownership and permission checks of folders and files that only the user may have written.

What is trusted because the user made it, such as a cache of decoded images, is trusted only while no one else may
change it.  On Windows, which has no such owners and modes, nothing is checked.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_folder(path: Path) -> None:
    """Make ``path`` for the user alone (0700), or see that the folder which is there is the user's.

    A link to it may be the user's own too.  A folder above that everybody may write to, and that is not sticky, would
    let others put another one in its place.

    Raises:
        PermissionError: others own it or may put another one in its place.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "geteuid"):
        return
    _refuse_others(path, path.lstat())
    _refuse_others(path, path.stat())
    for above in path.resolve().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise PermissionError(errno.EPERM, f"others may put another one in its place: {above} is open to all")


def owner_to_read(path: Path) -> int | None:
    """The user to whom a folder belongs that others may only read, and that nobody else can have put there.

    That is somebody's folder which the user may choose to read.  None for any other, and on systems without owners.

    Raises:
        OSError: it is not there or cannot be looked at.
    """
    if not hasattr(os, "geteuid"):
        return None
    found = path.stat()
    closed = not found.st_mode & (stat.S_IRGRP | stat.S_IROTH) or not may(path, os.R_OK | os.X_OK)
    if closed or (found.st_mode & WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX):
        return None
    trusted = (os.geteuid(), 0)
    for link in (path, *path.parents):
        if link.is_symlink() and link.lstat().st_uid not in trusted:
            return None
    whole = path.resolve()
    for inside, above in zip((whole, *whole.parents), whole.parents, strict=False):
        # where everybody may make a folder, whoever was first owns what is called like this
        if above.stat().st_mode & stat.S_IWOTH and inside.stat().st_uid not in trusted:
            return None
    return found.st_uid


def may(path: Path, what: int) -> bool:
    """Whether this process may do ``what`` (``os.R_OK``, ``os.W_OK``, ``os.X_OK``) with a file or folder."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def foreign(path: Path, *, besides: int | None = None) -> str | None:
    """Why a file or folder may be another's work; None for one that only the user can have written.

    The user ``besides`` may have written it too.

    Raises:
        OSError: it is not there or cannot be looked at.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if not hasattr(os, "geteuid"):
        return None
    if found.st_uid not in (os.geteuid(), besides):
        return "it belongs to another user"
    return "others may write to it" if found.st_mode & WRITABLE_BY_OTHERS else None


def tighten(path: Path, *, shared: bool = False) -> None:
    """Take from everybody else what they may do with a file or folder of the user's; ``shared`` leaves them reading.

    Raises:
        OSError: the file system does not let it.
    """
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & (taken := WRITABLE_BY_OTHERS if shared else OPEN_TO_OTHERS):
        path.chmod(mode & ~taken)


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"it belongs to another user: {path}")
