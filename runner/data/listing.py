"""Which files a folder holds, as the operating system lists them, without opening any."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_OF_SYSTEMS = frozenset((
    "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found",
))  # fmt: skip

LARGEST_BYTES = 2**30
"""A file beyond this is no image: files are read whole, several at a time."""


class ListedFile(NamedTuple):
    """One file: its path below the root, with forward slashes, and what tells that it has changed."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Everything below a folder that is not ``is_left_out``."""

    root: Path
    """The folder, links resolved."""
    files: tuple[ListedFile, ...]
    """The wanted files, sorted by path."""
    bad: tuple[tuple[str, str], ...]
    """Wanted entries that must not be followed, with the reason, sorted by path."""
    ignored: tuple[str, ...]
    """Unwanted files, sorted."""


def list_files(root: Path, *, below: tuple[str, ...] = ("",), wanted: Callable[[str], bool]) -> Listing:
    """List the files of ``root`` whose name ``wanted`` accepts, through all folders.

    A link is followed only to a file inside ``root``: what lies elsewhere is not part of the data set, and a link to
    a folder could count files twice or never end.

    Args:
        root: Folder to list.
        below: Paths inside ``root``, files or folders, to which the listing is confined.  ``root`` and these may be
            links to anywhere: somebody chose them.
        wanted: Says by name whether a file counts.

    Raises:
        OSError: A folder cannot be listed.
    """
    root = root.resolve()
    files: list[ListedFile] = []
    bad: list[tuple[str, str]] = []
    ignored: list[str] = []

    def visit(path: str, is_link: bool, is_folder: bool, found: os.stat_result) -> None:
        name = path.rpartition("/")[2]
        if is_folder:
            walk(path)
        elif not wanted(name) and not (is_link and os.path.isdir(root / path)):  # noqa: PTH112
            ignored.append(path)
        elif is_link and (reason := _refuse_link(root, path)):
            bad.append((path, reason))
        else:
            found = os.stat(root / path) if is_link else found  # noqa: PTH116
            if reason := refuse_file(found):
                bad.append((path, reason))
                return
            files.append(ListedFile(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns))

    def walk(folder: str) -> None:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if not is_left_out(entry.name):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    found = entry.stat(follow_symlinks=False)
                    visit(path, entry.is_symlink(), entry.is_dir(follow_symlinks=False), found)

    for path in below:
        start = root / path
        if start.is_dir():
            walk(path)
        else:
            visit(path, start.is_symlink(), False, start.lstat())
    return Listing(root=root, files=tuple(sorted(files)), bad=tuple(sorted(bad)), ignored=tuple(sorted(ignored)))


def is_left_out(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems keep for themselves: thumbnails, forks, wastebaskets."""
    return name.startswith(".") or name in _OF_SYSTEMS


def refuse_file(found: os.stat_result) -> str | None:
    """Why a file must not be opened: reading a pipe waits for ever, and a device or a sparse file may never end."""
    if not stat.S_ISREG(found.st_mode):
        return "it is not an ordinary file"
    return f"it is larger than {LARGEST_BYTES >> 20} MiB" if found.st_size > LARGEST_BYTES else None


def _refuse_link(root: Path, path: str) -> str | None:
    try:
        target = (root / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return "the link leads nowhere"
    if not target.is_relative_to(root):
        return "the link leaves the folder"
    return "the link leads to a folder" if target.is_dir() else None
