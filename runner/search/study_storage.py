"""The storage of a study, and the locks between its workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from runner.config.request.search_config import KEY
from runner.config.words.expand_user import expand_user
from runner.disk.files import ordinary, sync_handle
from runner.disk.lock import locked
from runner.errors import RequestError
from runner.records.run_lock import lock_run

JOURNAL_FILE = "search.journal"
MEMORY = "memory"
RECIPE = "recipe"
"""Attribute of a study that says what is searched, and whose row in a database is the lock of its workers."""

_SECONDS_TO_CONNECT = 10
_SECONDS_TO_LOCK = 60.0
"""SQLite: how long to wait for another worker's transaction."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """An open storage."""

    backend: BaseStorage
    place: str
    """Path or URL, without a password, for people."""
    turn: Callable[[int], AbstractContextManager[Any]]
    """turn(study id): inside it, no other worker of the study claims a trial."""

    def study_id(self, study: optuna.Study) -> int:
        """The number by which the backend knows ``study``."""
        return self.backend.get_study_id_from_name(study.study_name)

    def trial_id(self, study: optuna.Study, number: int) -> int:
        """The number by which the backend knows trial ``number`` of ``study``."""
        return self.backend.get_trial_id_from_study_id_trial_number(self.study_id(study), number)


def place_of(storage: str | None, sweep_dir: Path) -> str:
    """Path of a journal file, or URL, for ``hydra.sweeper.storage``."""
    if storage is None:
        return str(sweep_dir / JOURNAL_FILE)
    return str(sweep_dir / f".{MEMORY}" / JOURNAL_FILE) if storage == MEMORY else expand_user(storage)


@contextlib.contextmanager
def forgotten(sweep_dir: Path) -> Iterator[None]:
    """Inside this context ``memory`` is a file in ``sweep_dir``; before and after it there is none.

    Trials run in processes of their own, which a dictionary in this one would not reach.

    Raises:
        RequestError: another search has its memory there.
    """
    folder = Path(place_of(MEMORY, sweep_dir)).parent
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock_run(folder))
        except RequestError as error:
            raise _unusable(MEMORY, f"another search runs in {sweep_dir}, and memory is not shared") from error
        Path(place_of(MEMORY, sweep_dir)).unlink(missing_ok=True)
        try:
            yield
        finally:
            shutil.rmtree(folder)


def open_storage(place: str) -> Storage:
    """Open ``place`` (see ``place_of``), and make it where it is missing.

    Raises:
        RequestError: it cannot be reached or used.
    """
    if "://" in place:
        return _open_database(place)
    path = Path(place).absolute()
    try:
        if path.exists():
            ordinary(path)
        backend = JournalStorage(_Journal(path))
    except OSError as error:
        raise _unusable(place, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(place, f"it is not a journal of Optuna's: {error}") from error
    return Storage(backend=backend, place=str(path), turn=lambda _: _file_lock(path))


def _open_database(url: str) -> Storage:
    try:
        parsed = make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise _unusable(url.partition("://")[0] + "://...", "it cannot be read as a URL") from error
    shown = parsed.render_as_string(hide_password=True)
    kind = parsed.get_backend_name()
    waits = {"sqlite": {"timeout": _SECONDS_TO_LOCK}, "postgresql": {"connect_timeout": _SECONDS_TO_CONNECT}}
    if kind == "sqlite" and (file := Path(parsed.database or "")).exists() and not (file.is_file() or file.is_dir()):
        raise _unusable(shown, "it is not an ordinary file")
    try:
        # No pool: hours may pass between two calls, by when servers and firewalls have dropped what was kept open.
        backend = RDBStorage(url, engine_kwargs={"poolclass": NullPool, "connect_args": waits.get(kind, {})})
    except ImportError as error:
        extra = "pip install 'recipe-runner[postgresql]'" if kind == "postgresql" else "its driver installed"
        raise RequestError(f"{KEY}.storage", shown, f"a storage whose driver is there: {extra}") from error
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
        raise _unusable(shown, str(getattr(error, "orig", None) or error).splitlines()[0]) from error
    if kind == "sqlite" and parsed.database:
        path = Path(parsed.database).absolute()
        return Storage(backend=backend, place=shown, turn=lambda _: _file_lock(path))
    return Storage(backend=backend, place=shown, turn=lambda study_id: _row_lock(backend.engine, study_id))


def _unusable(place: str, reason: str) -> RequestError:
    return RequestError(f"{KEY}.storage", place, f"a storage that can be reached and written ({reason})")


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """The turn of a study in a file: a lock beside it, which the operating system drops when its owner ends."""
    turn = path.with_name(f".{path.name}.turn")
    with turn.open("ab") as file, locked(file.fileno(), turn):
        yield


@contextlib.contextmanager
def _row_lock(engine: sqlalchemy.Engine, study_id: int) -> Iterator[None]:
    """The turn of a study in a database: a lock on a row of its own, which the server drops when its owner ends.

    It must be a row that claiming does not write to, for that is done by other connections.
    """
    columns: Any = (sqlalchemy.column(name) for name in ("study_user_attribute_id", "study_id", "key"))
    attributes = sqlalchemy.table("study_user_attributes", *columns)
    row = sqlalchemy.select(attributes.c.study_user_attribute_id).where(
        attributes.c.study_id == study_id, attributes.c.key == RECIPE
    )
    with engine.begin() as connection:
        connection.execute(row.with_for_update()).one()
        yield


class _KernelLock(JournalFileOpenLock):
    """A lock that ends with its owner; the file of Optuna's own outlives a killed worker for half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.lock")
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with contextlib.ExitStack() as held:
            held.callback(os.close, handle)
            held.enter_context(locked(handle, self._path))
            self._held = held.pop_all()
        return True

    def release(self) -> None:
        self._held.close()


class _Journal(JournalFileBackend):
    """Optuna's journal file, which a worker may be killed in the middle of writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._alone = _KernelLock(path)
        super().__init__(str(path), lock_obj=self._alone)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write ``logs`` at the end, after cutting off the line that a killed worker has left half written."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._alone.acquire()
        try:
            with self._path.open("r+b") as file:
                file.truncate(_whole(file))
                file.seek(0, os.SEEK_END)
                file.write(lines.encode())
                file.flush()
                sync_handle(file.fileno())
        finally:
            self._alone.release()


def _whole(file: Any) -> int:
    """Size of the part of ``file`` that ends with a line end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
