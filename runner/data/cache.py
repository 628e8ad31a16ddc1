"""Folders of derived files, each named by a hash of what it was made from, that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runner.config.errors import RequestError
from runner.disk.files import sync, sync_directory, write_text

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1

# Files up to this size are read and hashed at each opening (0.1 s for CIFAR-10, whose pages are needed in memory
# anyway); larger ones are known by their size alone.
HASHED_BYTES = 256 * 2**20

ABANDONED_SECONDS = 86_400.0


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/recipe-runner``, or ``~/.cache/recipe-runner`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recipe-runner"


def cache_folder(configured: str | None) -> Path:
    """The folder that ``data.cache_dir`` names, or the default; it need not exist."""
    return Path(configured).expanduser() if configured else default_cache_dir()


@contextlib.contextmanager
def scratch_folder(configured: str | None) -> Iterator[Path]:
    """A fresh folder in the cache, where that cannot be written among the temporary files; removed in the end.

    ``configured`` is what ``data.cache_dir`` says.
    """
    root = cache_folder(configured)
    try:
        root.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=".plan-", dir=root)
    except OSError:
        made = tempfile.mkdtemp(prefix="recipe-runner-")
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


class Cache:
    """Content-addressed entries below one folder, safe for processes that build the same entry at once."""

    def __init__(self, root: str | None) -> None:
        """``root`` is the configured folder; None takes the default.

        Raises:
            RequestError: The folder cannot be made.
        """
        self.root = cache_folder(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def find(self, key: str) -> Path | None:
        """Folder of the entry ``key``; None, with a warning, where it is damaged, and None where there is none."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        fault = _fault(folder)
        if fault:
            log.warning("the cache entry %s is damaged (%s) and is built again", folder, fault)
        return None if fault else folder

    def build(self, key: str, fill: Callable[[Path], None]) -> Path:
        """Make the entry ``key``: ``fill`` writes its files into an empty folder, which is then renamed.

        Where another process finishes the same entry first, that one is taken.

        Raises:
            RequestError: The cache's folder cannot be written or is full.
        """
        try:
            self._remove_abandoned()
            draft = self._fresh(key)
            draft.mkdir()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fill(draft)
            _seal(draft)
            return self._publish(draft, self.root / key)
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def read_note(self, name: str) -> dict[str, str]:
        """Read a small record kept beside the entries; empty where it is missing or unreadable."""
        try:
            note = json.loads((self.root / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def write_note(self, name: str, note: dict[str, str]) -> None:
        """Replace the record ``name`` in one step.

        Raises:
            RequestError: The cache's folder cannot be written.
        """
        try:
            write_text(self.root / name, json.dumps(note))
        except OSError as error:
            raise self._unusable(error) from error

    def _publish(self, draft: Path, folder: Path) -> Path:
        while True:
            try:
                draft.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if _fault(folder) is None:
                    return folder
                # Renamed before it is removed: nobody must find half of it.  Another builder may have been faster.
                aside = self._fresh(folder.name)
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(aside)
                    shutil.rmtree(aside)
            else:
                sync_directory(self.root)
                return folder

    def _remove_abandoned(self) -> None:
        """Drop what killed builders have left; one that is still at work has written within the last day."""
        for draft in self.root.glob(".*.*"):
            with contextlib.suppress(FileNotFoundError):  # its builder has just published it
                newest = max(path.stat().st_mtime for path in (draft, *draft.glob("*")))
                if draft.is_dir() and time.time() - newest > ABANDONED_SECONDS:
                    shutil.rmtree(draft)

    def _fresh(self, name: str) -> Path:
        """Make up a hidden path that no other process uses, on the same file system as ``name``."""
        return self.root / f".{name}.{secrets.token_hex(8)}"

    def _unusable(self, error: OSError) -> RequestError:
        reason = error.strerror or str(error)
        return RequestError(
            "data.cache_dir",
            f"{self.root} ({reason})",
            "a folder that can be written and has room, or data.cache=memory",
        )


def _seal(folder: Path) -> None:
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _hash(path)} for path in sorted(folder.iterdir())}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
    for path in (*folder.iterdir(), folder):
        sync(path)


def _fault(folder: Path) -> str | None:
    """Why the entry cannot be used, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            return f"its format is {manifest['format']}"
        for name, stated in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != stated["bytes"]:
                return f"{name} holds {path.stat().st_size} bytes instead of {stated['bytes']}"
            if stated["bytes"] <= HASHED_BYTES and _hash(path) != stated["sha256"]:
                return f"the contents of {name} have changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
