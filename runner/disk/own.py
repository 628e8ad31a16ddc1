"""Folders and files that nobody but the user can have written: owner, permissions and links, as the system tells them.

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


def make_own_folder(path: Path) -> None:
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


def foreign(path: Path) -> str | None:
    """Why a file or folder may be another's work; None for one that only the user can have written.

    Raises:
        OSError: it is not there or cannot be looked at.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if not hasattr(os, "geteuid"):
        return None
    if found.st_uid != os.geteuid():
        return "it belongs to another user"
    return "others may write to it" if found.st_mode & WRITABLE_BY_OTHERS else None


def tighten(path: Path) -> None:
    """Take from everybody else what they may do with a file or folder of the user's.

    Raises:
        OSError: the file system does not let it.
    """
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & OPEN_TO_OTHERS:
        path.chmod(mode & ~OPEN_TO_OTHERS)


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"it belongs to another user: {path}")
