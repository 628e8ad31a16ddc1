"""Caches that cannot be written, and caches of other users: nothing is lost but time, and it is said."""

import contextlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from image_files import class_folders

from runner.config.schema import DataConfig
from runner.data.cache import folder_cache as cache
from runner.data.open import open_data
from runner.disk import ownership
from runner.errors import RequestError

ANN, BOB = 64_001, 64_002

users = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def place():
    """A folder that other users may enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        class_folders(Path(made) / "photos", per_class=6, size=(8, 8))
        yield Path(made)


@pytest.fixture
def ask(place):
    def ask(user=None, **keys):
        fixed = {"target": "runner.data.image_folder.load_image_folder", "name": "x", "root": str(place / "photos")}
        with acting_as(user):
            return open_data(DataConfig(**fixed | {"cache_dir": str(place / "cache")} | keys))

    return ask


@contextlib.contextmanager
def acting_as(user):
    if user is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def folder_of(user, path, mode=0o755):
    path.mkdir()
    os.chown(path, user, user)
    path.chmod(mode)
    return path


def decodings(caplog):
    return sum("decoding" in record.message for record in caplog.records)


def whole(data):
    return len(data.train) + len(data.val) + len(data.test) == 12


@pytest.mark.parametrize("how", ["memory", "off", "auto"])
@pytest.mark.parametrize("skip", ["refuse", "skip"])
def test_without_a_cache_images_are_decoded_and_it_is_said(ask, place, how, skip):
    (place / "file").write_bytes(b"")
    data = ask(cache_dir=str(place / "file/cache"), cache=how, on_bad_file=skip)
    assert whole(data)
    (note,) = data.notes
    assert note == (
        f"data.cache_dir: {place / 'file/cache'} is not written (Not a directory): what would be kept there is worked"
        " out anew in each run"
    )
    with pytest.raises(RequestError, match=r"or data\.cache=memory$"):
        ask(cache_dir=str(place / "file/cache"), cache="disk")


@users
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_cache_of_ones_own_that_cannot_be_written(ask, place, caplog, mode):
    folder_of(BOB, place / "cache")
    ask(BOB)
    (place / "cache").chmod(mode)
    caplog.set_level(logging.INFO)
    data = ask(BOB)
    assert whole(data)
    assert "is not written (Permission denied)" in data.notes[0]
    assert decodings(caplog) == (mode == 0)  # what can be read is
    (place / "cache").chmod(mode | 0o022)
    ask(BOB)
    assert decodings(caplog) == (mode == 0) + 1  # but not where others may have put it
    (place / "cache").chmod(mode)
    for how in ("memory", "off"):
        assert whole(ask(BOB, cache=how, image_size=4))


@users
def test_a_cache_is_read_by_those_whom_its_owner_lets(ask, place, caplog):
    folder_of(ANN, place / "cache")
    shared = ask(ANN, cache_shared=True)
    for path in (place / "cache").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    caplog.set_level(logging.INFO)
    for how in ("auto", "disk", "memory"):
        data = ask(BOB, cache=how)
        assert data.fingerprint == shared.fingerprint
        assert data.notes == (
            f"data.cache_dir: {place / 'cache'} is not written (it belongs to another user): it is read alone",
        )
    assert decodings(caplog) == 0
    assert whole(ask(BOB, image_size=4))  # not in it
    with pytest.raises(RequestError, match="it belongs to another user"):
        ask(BOB, image_size=4, cache="disk")
    ask(ANN)  # who does not say it again, shares it no longer
    assert "is not written (it belongs to another user" in ask(BOB).notes[0]
    assert decodings(caplog) == 2
    ask(ANN, cache_shared=True)
    ask(BOB)
    assert decodings(caplog) == 2


@users
def test_what_a_third_user_may_have_put_there_is_not_read(ask, place, caplog, monkeypatch):
    """Where others may write, or everybody may make a folder of that name, nobody's word is taken."""
    folder_of(ANN, place / "cache")
    ask(ANN, cache_shared=True)
    caplog.set_level(logging.INFO)
    open_to_all = place / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    shutil.move(place / "cache", open_to_all / "cache")
    assert whole(ask(BOB, cache_dir=str(open_to_all / "cache")))  # ANN may have been first
    assert decodings(caplog) == 1
    shutil.move(open_to_all / "cache", place / "cache")
    (place / "cache").chmod(0o777)
    assert whole(ask(BOB))
    assert decodings(caplog) == 2
    (place / "cache").chmod(0o755)
    (entry,) = (path for path in (place / "cache").iterdir() if path.is_dir())
    os.chown(entry / "images.npy", 64_003, 64_003)
    assert whole(ask(BOB))
    assert decodings(caplog) == 3
    assert "is left alone" in caplog.text
    for module in (ownership, cache):
        monkeypatch.setattr(module, "foreign", lambda path, **_: None)
    ask(BOB)
    assert decodings(caplog) == 3  # without the check it is read


@users
def test_a_damaged_entry_of_another_user_is_not_touched(ask, place, monkeypatch):
    folder_of(ANN, place / "cache")
    ask(ANN, cache_shared=True)
    (images,) = (place / "cache").glob("*/images.npy")
    with images.open("r+b") as file:
        file.seek(200)
        file.write(bytes(100))
    assert whole(ask(BOB))  # found at once: decoded again
    monkeypatch.setattr(cache, "AT_ONCE_BYTES", 0)
    with pytest.raises(RuntimeError, match=r"data\.cache=memory does without it"):
        ask(BOB)
    assert (images.parent / "manifest.json").exists()
