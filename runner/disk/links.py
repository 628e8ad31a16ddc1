"""Symbolic links in a folder that would redirect what is written there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""For ``os.open``: refuse a link.  Windows has no such flag."""


def outward_link(folder: Path) -> Path | None:
    """A symbolic link below ``folder`` that leads out of it; None where there is none.

    ``folder`` itself may be one: somebody chose it.  Folders behind links are not entered.
    """
    root = folder.resolve()
    waiting = [root]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as found:  # a run may be at work there
            for entry in found:
                if entry.is_symlink():
                    if not Path(entry.path).resolve().is_relative_to(root):
                        return Path(entry.path)
                elif entry.is_dir():
                    waiting.append(Path(entry.path))
    return None
