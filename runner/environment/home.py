"""A makeshift home folder where the user has none (``docker -u``)."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set ``HOME``, and ``USER``, for this process and what it starts, where there is nothing to tell them by.

    Libraries look there for their settings, and write what they would rather not do twice.
    """
    if _has_one():
        return
    folder = Path(tempfile.gettempdir()) / _makeshift()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():  # somebody else has been faster
        folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    os.environ["HOME"] = str(folder)
    os.environ.setdefault("USER", str(os.getuid()))
    print(f"note: this user has no home folder; what is kept for later goes to {folder}", file=sys.stderr)


def permanent_home() -> Path | None:
    """The user's home folder; None where there is none that outlasts the machine's next start."""
    return Path.home() if _has_one() and not Path.home().name.startswith(_makeshift()) else None


def _has_one() -> bool:
    """Whether there is one, or where it could be made; that of a system's own user may be a name alone."""
    try:
        home = Path.home()
    except RuntimeError:
        return False
    return home.is_dir() or os.access(home.parent, os.W_OK)


def _makeshift() -> str:
    return f"recipe-runner-{os.getuid()}"
