"""A folder of results that appears whole or not at all, and never in the place of others unless that was asked for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.disk.files import publish_directory
from runner.disk.lock import acquire, release
from runner.disk.rollback import missing_folders, remove_empty
from runner.disk.unsupported import is_unsupported
from runner.errors import RequestError, RunError
from runner.statement.write import STATEMENT_FILE

_HEADS = {"inference.json", "compare.csv", "export.json"}
"""Results have one of these; and besides them no other files than the next ones."""
_BESIDE = {"predictions.csv", "confusion.png", "model.onnx", "model.pt2", STATEMENT_FILE}


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Ask before anything is computed.

    Raises:
        RequestError: ``folder`` is there already, or is to be replaced and holds other things than results.
    """
    if not os.path.lexists(folder):
        return
    other = _other_than_results(folder)
    if other is not None:
        raise RequestError("output", f"{folder} ({other})", "output=FOLDER, new or with such results to replace")
    if not overwrite:
        raise RequestError("output", f"{folder} (there already)", "output=FOLDER, or overwrite=true to replace it")


def _other_than_results(folder: Path) -> str | None:
    """Why ``folder`` may not be replaced: it may be a run, images or anything else that somebody wants to keep."""
    if folder.is_symlink() or not folder.is_dir():
        return "there already, and no folder"
    found = sorted(folder.iterdir())
    names = {path.name for path in found}
    if found and not names & _HEADS:
        return "there already, and not with results"
    for path in found:
        of_strategy = "compare.csv" in names and path.is_dir() and _other_than_results(path) is None
        if not of_strategy and not (path.is_file() and path.name in _HEADS | _BESIDE):
            return f"there already, and {path.name} in it is none of its results"
    return None


@contextlib.contextmanager
def results_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new, empty folder that becomes ``folder`` at the end of the block; an exception leaves nothing.

    For the duration nobody else can make ``folder``, and what killed commands have left of it is removed.

    Raises:
        RequestError: ``folder`` is there already and may not be replaced, another command makes it, or it cannot be
            made.
        RunError: it cannot be written, because the disk is full, say.
    """
    folder = folder.absolute()
    with _claimed(folder):
        refuse_existing(folder, overwrite=overwrite)
        try:
            _remove_left(folder, "tmp")
            files = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            yield files
            _open_to_readers(files)
            publish_directory(files, folder)
            # not before there are new results: a kill while they took the place of others leaves these as the only ones
            _remove_left(folder, "old")
        except OSError as error:
            raise RunError(f"{folder}: cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(files, ignore_errors=True)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold the name of ``folder``, which need not exist; a parent made for it goes again where nothing came into it."""
    lock = folder.with_name(f".{folder.name}.lock")
    missing = missing_folders(folder.parent)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        held = acquire(lock)
    except BlockingIOError as error:
        raise RequestError(
            "output", f"{folder} (another command is writing it)", "output=FOLDER, or to wait for that command"
        ) from error
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        yield
    finally:
        release(lock, held)
        if not folder.exists():
            remove_empty(missing)


def _open_to_readers(files: Path) -> None:
    """What only its owner could enter while it was made; some file systems keep no permissions."""
    try:
        files.chmod(0o755)
    except OSError as error:
        if not is_unsupported(error):
            raise


def _remove_left(folder: Path, suffix: str) -> None:
    """Remove what killed commands have left beside ``folder``: whoever is alive would hold the lock."""
    left = re.compile(rf"\.{re.escape(folder.name)}\.\w{{8}}\.{suffix}")
    for path in folder.parent.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _unusable(folder: Path, error: OSError) -> RequestError:
    return RequestError("output", f"{folder} ({error.strerror})", "a folder that can be written")
