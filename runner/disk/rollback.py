"""Undoing what a refused command has written, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path


def missing_folders(folder: Path) -> list[Path]:
    """``folder`` and those above it that are not there yet, from the inside out."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove ``folders``, from the inside out, up to the first one with something in it."""
    with contextlib.suppress(OSError):  # not empty: somebody else has put something there
        for path in folders:
            path.rmdir()


class FolderSnapshot:
    """A run's folder as it was before Hydra wrote its own files there, and the log began."""

    def __init__(self, run_dir: Path, own: Sequence[str]) -> None:
        """``own`` are the names in ``run_dir`` that are written: files, and folders of files."""
        self._missing = missing_folders(run_dir)
        self._files = {path: path.read_bytes() for name in own for path in _files(run_dir / name)}
        self._folders = {run_dir / name for name in own if (run_dir / name).is_dir()}
        self._own = own

    def restore(self, run_dir: Path) -> None:
        """Put ``run_dir`` back as it was; a name with the time in it may be another one than was foreseen."""
        for name in self._own:
            for path in _files(run_dir / name):
                if path in self._files:
                    path.write_bytes(self._files[path])
                else:
                    path.unlink()
            if (folder := run_dir / name).is_dir() and folder not in self._folders:
                remove_empty([folder])
        foreseen = self._missing[:1]
        above = [path for path in self._missing[1:] if path in run_dir.parents]
        remove_empty([*([run_dir] if foreseen else []), *above])


def _files(place: Path) -> list[Path]:
    """``place`` itself, or the files in it; none where it is not there, nor behind a link."""
    if place.is_symlink():
        return []
    return (
        [path for path in place.iterdir() if path.is_file()] if place.is_dir() else [place] if place.is_file() else []
    )
