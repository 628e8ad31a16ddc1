"""Listing the files of a folder without opening any."""

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
    links: tuple[str, ...] = ()
    """Those of ``bad`` that ``follow_links`` would have followed, sorted."""


def list_files(
    root: Path, *, below: tuple[str, ...] = ("",), wanted: Callable[[str], bool], follow_links: bool = False
) -> Listing:
    """List the files of ``root`` whose name ``wanted`` accepts, through all folders.

    Without ``follow_links`` a link is followed only to a file inside ``root``: what lies elsewhere is not part of the
    data set, and a link to a folder could count files twice.

    Args:
        root: Folder to list.
        below: Paths inside ``root``, files or folders, to which the listing is confined.  ``root`` and these may be
            links to anywhere: somebody chose them.
        wanted: Says by name whether a file counts.
        follow_links: Follow links to any file or folder, but to one that it lies in.

    Raises:
        OSError: A folder cannot be listed.
    """
    root = root.resolve()
    files: list[ListedFile] = []
    bad: list[tuple[str, str]] = []
    ignored: list[str] = []
    links: list[str] = []
    above: list[str] = []
    """Folders that are being walked, links resolved."""

    def visit(path: str, is_link: bool, is_folder: bool, found: os.stat_result) -> None:
        name = path.rpartition("/")[2]
        if is_folder and is_link and os.path.realpath(root / path) in above:
            bad.append((path, "the link leads to a folder that it lies in"))
        elif is_folder:
            walk(path)
        elif not wanted(name) and not (is_link and os.path.isdir(root / path)):  # noqa: PTH112
            ignored.append(path)
        elif is_link and (reason := _refuse_link(root, path, follow_links)):
            bad.append((path, reason))
            if (root / path).exists():
                links.append(path)
        else:
            found = os.stat(root / path) if is_link else found  # noqa: PTH116
            if reason := refuse_file(found):
                bad.append((path, reason))
                return
            files.append(ListedFile(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns))

    def walk(folder: str) -> None:
        above.append(os.path.realpath(root / folder))
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if not is_left_out(entry.name):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    found = entry.stat(follow_symlinks=False)
                    visit(path, entry.is_symlink(), entry.is_dir(follow_symlinks=follow_links), found)
        above.pop()

    for path in below:
        start = root / path
        if start.is_dir():
            walk(path)
        else:
            visit(path, start.is_symlink(), False, start.lstat())
    return Listing(
        root=root,
        files=tuple(sorted(files)),
        bad=tuple(sorted(bad)),
        ignored=tuple(sorted(ignored)),
        links=tuple(sorted(links)),
    )


def folders_of(folder: Path, *, links: bool = False) -> list[str]:
    """Names of the folders in ``folder``, sorted; hidden ones and those of the system are left out, and ``links``."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if not is_left_out(entry.name) and entry.is_dir(follow_symlinks=links)
        )


def is_left_out(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems keep for themselves: thumbnails, forks, wastebaskets."""
    return name.startswith(".") or name in _OF_SYSTEMS


def refuse_file(found: os.stat_result) -> str | None:
    """Why a file must not be opened: reading a pipe waits for ever, and a device or a sparse file may never end."""
    if not stat.S_ISREG(found.st_mode):
        return "it is not an ordinary file"
    return f"it is larger than {LARGEST_BYTES >> 20} MiB" if found.st_size > LARGEST_BYTES else None


def _refuse_link(root: Path, path: str, follow_links: bool) -> str | None:
    try:
        target = (root / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return "the link leads nowhere"
    if follow_links:
        return None
    if not target.is_relative_to(root):
        return "the link leaves the folder"
    return "the link leads to a folder" if target.is_dir() else None
