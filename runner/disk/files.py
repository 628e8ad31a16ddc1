"""Files that are either the old ones or the new ones, whole, at whatever moment the machine stops.

The recipe is the same for a file and for a folder: write under a temporary name in the same folder (a rename is atomic
only within a file system), ask the kernel to put the contents on the disk, rename, and put the folder's own entry on
the disk too, for a rename that is not on the disk is undone by a power cut.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path

from runner.disk.unsupported import is_unsupported, warn_once


def ordinary(path: Path) -> Path:
    """``path``, to be read; a pipe would be waited for and a device read for ever.

    Raises:
        OSError: it is no ordinary file, or there is none.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not an ordinary file")
    return path


def write_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the file ``path`` by ``content``, atomically and durably.

    ``mode`` is the file's permissions, less the process's umask; it holds from the first byte on, so that a secret is
    at no moment readable by others.

    Raises:
        OSError: when the disk is full, say; ``path`` then still holds what it held before, and no temporary file
            is left.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            sync_handle(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the file ``path`` by ``text`` in UTF-8, atomically and durably.

    A file name that is not UTF-8 comes as lone surrogates, which are written as their escapes: those of JSON.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def publish_directory(temporary: Path, final: Path) -> None:
    """Make the finished folder ``temporary`` appear under the name ``final``, whole or not at all.

    Every file and folder inside is put on the disk before the rename.  An older folder ``final`` is moved aside first
    and removed afterwards: between the two renames neither name holds it, so a reader that must always find one keeps
    several versions under different names, as checkpoints do.

    Raises:
        OSError: when a file cannot be put on the disk, or the two folders lie on different file systems.
    """
    for folder, _, names in os.walk(temporary):
        for name in names:
            sync(Path(folder) / name)
        sync_directory(Path(folder))
    replaced = None
    if final.exists():
        # os.rename refuses a folder that is not empty as its target.
        replaced = final.with_name(f".{final.name}.{secrets.token_hex(4)}.old")
        final.replace(replaced)
    temporary.replace(final)
    sync_directory(final.parent)
    if replaced is not None:
        shutil.rmtree(replaced)


def sync_directory(folder: Path) -> None:
    """Put the entries of ``folder`` (names made, renamed or removed in it) on the disk."""
    if os.name == "posix":  # Windows cannot open a folder, and makes renames durable by itself.
        sync(folder)


def sync(path: Path) -> None:
    """Put the contents of a file, or the entries of a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        sync_handle(handle)
    finally:
        os.close(handle)


def sync_handle(handle: int) -> None:
    """Put on the disk what an open file, or folder, holds; told once where the file system cannot say when it is.

    Raises:
        OSError: the disk is full or broken, say.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if not is_unsupported(error):
            raise
        kind = "folders" if stat.S_ISDIR(os.fstat(handle).st_mode) else "files"
        warn_once(
            f"the file system does not put {kind} on the disk when asked: a power cut may take what was saved last"
        )
