"""A folder of results that appears whole or not at all, and never in the place of others unless that was asked for."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.config.errors import RequestError, RunError
from runner.disk.files import publish_directory


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Ask before anything is computed.

    Raises:
        RequestError: ``folder`` is there already.
    """
    if folder.exists() and not overwrite:
        raise RequestError("output", f"{folder} (there already)", "output=FOLDER, or overwrite=true to replace it")


@contextlib.contextmanager
def results_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder that becomes ``folder`` at the end of the block; an exception leaves nothing.

    Raises:
        RequestError: ``folder`` cannot be made.
        RunError: it cannot be written, because the disk is full, say.
    """
    folder = folder.absolute()
    parent_is_new = not folder.parent.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        files = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise RequestError("output", f"{folder} ({error.strerror})", "a folder that can be written") from error
    try:
        yield files
        files.chmod(0o755)
        publish_directory(files, folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(files, ignore_errors=True)
        if parent_is_new and not folder.exists():
            with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
                folder.parent.rmdir()
