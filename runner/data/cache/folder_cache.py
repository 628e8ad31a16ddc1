"""Folders of derived files, each named by a hash of what it was made from, that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.config.words.expand_user import expand_user
from runner.data.cache.checked_map import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    CheckedMap,
    DamagedFileError,
    hash_blocks,
    map_checked,
)
from runner.disk.files import sync, sync_directory, write_bytes
from runner.disk.ownership import (
    OPEN_TO_OTHERS,
    WRITABLE_BY_OTHERS,
    foreign,
    make_private_folder,
    may,
    owner_to_read,
    tighten,
)
from runner.errors import RequestError, RunError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DIGESTS = "blocks.sha256"
"""The hashes of all blocks of all files, in the order of the manifest."""
FORMAT = 2

# Files up to this size are held against their hashes at each opening (0.1 s for CIFAR-10, whose pages are needed in
# memory anyway); of larger ones, each part when it is used for the first time.
AT_ONCE_BYTES = 256 * 2**20

_ENTRY = re.compile(r"[0-9a-f]{64}")
_OWN_NAMES = re.compile(r"[0-9a-f]{64}|\..*|(folder|unreadable|files)-[0-9a-f]{32}\.json|choices|plans")

ABANDONED_SECONDS = 86_400.0

_READ_BY_OTHERS = stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/recipe-runner``, or ``~/.cache/recipe-runner`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recipe-runner"


def cache_folder(configured: str | None) -> Path:
    """The folder that ``data.cache_dir`` names, or the default; it need not exist."""
    return Path(expand_user(configured)) if configured else default_cache_dir()


def cache_of_run(configured: str | None, run: Path) -> str | None:
    """The ``data.cache_dir`` that the folder ``run`` names, if it is one of the user's; None, the default, otherwise.

    Whoever wrote that folder must not say where decoded images go: a cache that is used again is there, closed to
    others (0700), and does not lie in the folder itself, which may be handed on.
    """
    if configured is None:
        return None
    path = cache_folder(configured)
    try:
        closed = not hasattr(os, "geteuid") or (
            path.stat().st_uid == os.geteuid() and not path.stat().st_mode & OPEN_TO_OTHERS
        )
        outside = not path.resolve().is_relative_to(run.resolve())
    except OSError:
        return None
    return configured if path.is_dir() and closed and outside else None


@contextlib.contextmanager
def scratch_folder(configured: str | None) -> Iterator[Path]:
    """A fresh folder in the cache, where that cannot be written among the temporary files; removed in the end.

    ``configured`` is what ``data.cache_dir`` says.
    """
    root = cache_folder(configured)
    try:
        make_private_folder(root)
        made = tempfile.mkdtemp(prefix=".plan-", dir=root)
    except OSError:
        made = tempfile.mkdtemp(prefix="recipe-runner-")
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """The files of one entry of the cache."""

    folder: Path
    digests: dict[str, bytes]
    """Of every file, the hashes of its blocks (``checked_map.hash_blocks``)."""
    own: bool = True
    """Whether it may be removed where it is damaged."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a file ``name``."""
        return name in self.digests

    def path(self, name: str) -> Path:
        """A file that was checked as a whole.

        Raises:
            RunError: it is damaged.  The entry will then be built again at the next start.
        """
        path = self.folder / name
        if path.stat().st_size > AT_ONCE_BYTES and hash_blocks(path) != self.digests[name]:
            raise self._give_up(DamagedFileError(f"the contents of {name} have changed"))
        return path

    def map(self, name: str) -> CheckedMap:
        """Map the pixels in the file ``name``.

        Raises:
            RunError: when rows are used that are damaged.  The entry will then be built again at the next start.
        """
        try:
            return map_checked(self.folder / name, self.digests[name], on_damage=self._give_up)
        except DamagedFileError as error:
            raise self._give_up(error) from error

    def _give_up(self, error: DamagedFileError) -> RunError:
        cure = "data.cache=memory does without it"
        if self.own:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            cure = "the same command decodes the images again"
        return RunError(
            f"data.cache_dir: {self.folder} is damaged ({error}), which was found before anything was made of it;"
            f" {cure}"
        )


class Cache:
    """Content-addressed entries below one folder, safe for processes that build the same entry at once.

    Folders are for the user alone (0700), files likewise (0600), whatever is in them: what is private is not asked.
    ``shared`` lets others read them (0755 and 0644), as far as the folder itself admits them.

    A folder that cannot be written, or is not the user's, gives no error by itself: ``unwritable`` says why nothing is
    kept.  What is in it is read where nobody but the user, or one whom the user chose to read, can have written it.
    """

    def __init__(self, root: str | None, *, shared: bool = False) -> None:
        """``root`` is the configured folder; None takes the default."""
        self.root = cache_folder(root)
        self.unwritable: str | None = None
        """Why nothing can be written; None where it can."""
        self._shared = shared
        self._readable = True
        self._besides: int | None = None
        """Another user, whose entries are read."""
        try:
            self._besides = self._another()
            if self._besides is not None:
                self.unwritable = "it belongs to another user"
                return
            make_private_folder(self.root)
            if self.root.stat().st_mode & WRITABLE_BY_OTHERS and not may(self.root, os.W_OK):
                raise PermissionError(errno.EPERM, "others may write to it")
            if may(self.root, os.W_OK | os.X_OK):
                _tighten_all(self.root, shared=shared)
            else:
                self.unwritable = os.strerror(
                    errno.EROFS if os.statvfs(self.root).f_flag & os.ST_RDONLY else errno.EACCES
                )
        except OSError as error:
            self.unwritable, self._readable = error.strerror or str(error), False

    def note(self, *, used: bool) -> str | None:
        """What to say of a cache that is not written; ``used`` where the images came out of it."""
        if self.unwritable is None:
            return None
        instead = "it is read alone" if used else "what would be kept there is worked out anew in each run"
        return f"data.cache_dir: {self.root} is not written ({self.unwritable}): {instead}"

    def _another(self) -> int | None:
        if not hasattr(os, "geteuid") or not self.root.is_dir() or self.root.stat().st_uid == os.geteuid():
            return None
        return owner_to_read(self.root)

    def find(self, key: str) -> CacheEntry | None:
        """The entry ``key``; None, with a warning, where it is damaged or not ours, and None where there is none."""
        folder = self.root / key
        if not self._readable or not os.path.lexists(folder):
            return None
        try:
            return _open(folder, besides=self._besides, own=self.unwritable is None)
        except DamagedFileError as fault:
            instead = "is built again" if self.unwritable is None else "is left alone"
            log.warning("the cache entry %s is damaged (%s) and %s", folder, fault, instead)
            return None

    def build(self, key: str, fill: Callable[[Path], None]) -> CacheEntry:
        """Make the entry ``key``: ``fill`` writes its files into an empty folder, which is then renamed.

        Where another process finishes the same entry first, that one is taken.

        Raises:
            RequestError: The cache's folder cannot be written or is full.
        """
        if self.unwritable is not None:
            raise self._unusable(self.unwritable)
        try:
            self._remove_abandoned()
            draft = self._fresh(key)
            draft.mkdir(mode=0o700)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        try:
            fill(draft)
            _seal(draft, shared=self._shared)
            return self._publish(draft, self.root / key)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def read_note(self, name: str) -> dict[str, str]:
        """Read a small record kept beside the entries; empty where it is missing, unreadable or may be another's."""
        try:
            if not self._readable or foreign(self.root / name, besides=self._besides):
                return {}
            note = json.loads((self.root / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return note if isinstance(note, dict) else {}

    def write_note(self, name: str, note: dict[str, str]) -> None:
        """Replace the record ``name`` in one step, where the folder can be written."""
        if self.unwritable is not None:
            return
        try:
            write_bytes(self.root / name, json.dumps(note).encode(), mode=0o644 if self._shared else 0o600)
        except OSError as error:
            self.unwritable = error.strerror or str(error)

    def _publish(self, draft: Path, folder: Path) -> CacheEntry:
        while True:
            try:
                draft.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                with contextlib.suppress(DamagedFileError):
                    return _open(folder)
                # Renamed before it is removed: nobody must find half of it.  Another builder may have been faster.
                aside = self._fresh(folder.name)
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(aside)
                    shutil.rmtree(aside) if stat.S_ISDIR(aside.lstat().st_mode) else aside.unlink()
            else:
                sync_directory(self.root)
                return _open(folder)

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

    def _unusable(self, reason: str) -> RequestError:
        return RequestError(
            "data.cache_dir",
            f"{self.root} ({reason})",
            "a folder of your own that can be written and has room, or data.cache=memory",
        )


def _tighten_all(root: Path, *, shared: bool) -> None:
    """Close ``root`` and what is in it to everybody else, where it is a cache and nothing besides.

    A ``shared`` one is closed to writing alone, and opened to reading.

    Raises:
        PermissionError: it holds other things and can be written by others.
        OSError: it cannot be read or changed.
    """
    mode = root.stat().st_mode
    with os.scandir(root) as found:
        names = [entry.name for entry in found]
    whole = all(map(_OWN_NAMES.fullmatch, names)) and not mode & stat.S_ISVTX
    if mode & OPEN_TO_OTHERS and hasattr(os, "geteuid"):
        if whole:
            tighten(root, shared=shared)
        elif mode & WRITABLE_BY_OTHERS:
            raise PermissionError(errno.EPERM, "others may write to it")
    elif shared and whole:
        root.chmod(stat.S_IMODE(mode) | _READ_BY_OTHERS)
    for name in filter(_ENTRY.fullmatch, names):
        with contextlib.suppress(FileNotFoundError):  # another process has replaced it
            if foreign(root / name) is None:
                tighten(root / name, shared=shared)
                if shared:
                    _open_to_readers(root / name)


def _open_to_readers(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)


def _seal(folder: Path, *, shared: bool = False) -> None:
    paths = sorted(folder.iterdir())
    digests = [hash_blocks(path) for path in paths]
    (folder / DIGESTS).write_bytes(b"".join(digests))
    files = {
        path.name: {"bytes": path.stat().st_size, "blocks": hashlib.sha256(own).hexdigest()}
        for path, own in zip(paths, digests, strict=True)
    }
    manifest = {"format": FORMAT, "block_bytes": BLOCK_BYTES, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in folder.iterdir():
        path.chmod(0o600)
        sync(path)
    if shared:
        _open_to_readers(folder)
    sync(folder)


def _open(folder: Path, *, besides: int | None = None, own: bool = True) -> CacheEntry:
    """The entry in ``folder``, everything in it checked but files larger than ``AT_ONCE_BYTES``.

    Raises:
        DamagedFileError: it is not what was written, or others may have written it.
    """
    try:
        _refuse_foreign(folder, besides)
        _refuse_foreign(folder / MANIFEST, besides)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if (manifest["format"], manifest.get("block_bytes")) != (FORMAT, BLOCK_BYTES):
            raise DamagedFileError(f"its format is {manifest['format']}")
        _refuse_foreign(folder / DIGESTS, besides)
        rest, digests = (folder / DIGESTS).read_bytes(), {}
        for name, stated in manifest["files"].items():
            _refuse_foreign(folder / name, besides)
            size = (folder / name).stat().st_size
            if size != stated["bytes"]:
                raise DamagedFileError(f"{name} holds {size} bytes instead of {stated['bytes']}")
            length = -(-size // BLOCK_BYTES) * DIGEST_BYTES
            digests[name], rest = rest[:length], rest[length:]
            if hashlib.sha256(digests[name]).hexdigest() != stated["blocks"]:
                raise DamagedFileError(f"{DIGESTS} has changed")
            if size <= AT_ONCE_BYTES and hash_blocks(folder / name) != digests[name]:
                raise DamagedFileError(f"the contents of {name} have changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error
    return CacheEntry(folder=folder, digests=digests, own=own)


def _refuse_foreign(path: Path, besides: int | None) -> None:
    if reason := foreign(path, besides=besides):
        raise DamagedFileError(f"{path.name}: {reason}")
