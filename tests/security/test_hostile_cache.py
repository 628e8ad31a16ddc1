"""Caches that others may have written, or that are not what was written: found before a pixel is used."""

import hashlib
import json
import logging
import os
import stat

import numpy as np
import pytest
import torch
from hostile_images import encode
from PIL import Image

from runner.config.schema import DataConfig
from runner.config.untrusted.run_config import read_values
from runner.data.cache import checked_map
from runner.data.cache import folder_cache as cache
from runner.data.cache.checked_map import BLOCK_BYTES, CheckedMap
from runner.data.feed import Feed
from runner.data.folders import content_hash
from runner.data.open import open_data
from runner.disk import ownership
from runner.errors import RequestError, RunError
from runner.inference.finished_run import read_config
from tests.security.attacks_run_folders import folder as crafted_run
from tests.security.stage import Stage

FOREIGN = 65534


@pytest.fixture
def photos(tmp_path):
    """Forty noisy pictures of 64 pixels: 480 kB when decoded, in two blocks."""
    for index in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path.write_bytes(encode(Image.fromarray(pixels), "PNG"))
    return tmp_path / "photos"


@pytest.fixture
def ask(photos, tmp_path):
    def ask(**keys):
        source = "runner.data.image_folder.load_image_folder"
        fixed = {"target": source, "name": "x", "root": str(photos), "cache_dir": str(tmp_path / "cache")}
        return open_data(DataConfig(**fixed | {"val_fraction": 0.0, "test_fraction": 0.0, "cache": "disk"} | keys))

    return ask


def files(root):
    return [path for path in root.rglob("*") if path.is_file()]


def refusal(ask, **keys):
    with pytest.raises(RequestError) as refused:
        ask(**keys)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def zero(path, first, length):
    with path.open("r+b") as file:
        file.seek(first)
        file.write(bytes(length))


# Who may read and write it


def test_a_cache_is_for_its_owner_alone_whatever_the_umask(ask, tmp_path):
    before = os.umask(0)
    try:
        ask()
    finally:
        os.umask(before)
    root = tmp_path / "cache"
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert len(files(root)) >= 5
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_lax_cache_of_ones_own_is_closed(ask, tmp_path):
    ask()
    root = tmp_path / "cache"
    (entry,) = (path for path in root.iterdir() if path.is_dir())
    for path in (root, entry):
        path.chmod(0o755)
    ask()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, entry)] == [0o700, 0o700]


def test_a_folder_that_holds_other_things_is_never_closed(ask, tmp_path):
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(0o755)
    (root / "thesis.tex").write_text("")
    ask()
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    root.chmod(0o777)
    assert "others may write to it" in refusal(ask)
    sticky = tmp_path / "like tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    assert "others may write to it" in refusal(ask, cache_dir=str(sticky))
    assert stat.S_IMODE(sticky.stat().st_mode) == 0o1777


def test_a_folder_above_that_is_open_to_all_is_refused_unless_sticky(ask, tmp_path):
    above = tmp_path / "open"
    above.mkdir()
    above.chmod(0o777)
    assert "others may put another one in its place" in refusal(ask, cache_dir=str(above / "cache"))
    above.chmod(0o1777)
    ask(cache_dir=str(above / "cache"))


def pretend_to_be_another(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: FOREIGN)


def test_another_users_cache_is_refused(ask, monkeypatch):
    ask()
    pretend_to_be_another(monkeypatch)
    assert "(it belongs to another user: " in refusal(ask)
    monkeypatch.setattr(ownership, "_refuse_others", lambda path, found: None)
    monkeypatch.setattr(ownership, "foreign", lambda path, **_: None)
    for name in ("foreign", "tighten"):
        monkeypatch.setattr(cache, name, lambda path, **_: None)
    ask()  # without the guard it is read


def test_a_link_of_another_user_to_ones_own_cache_is_refused(ask, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to give a link away")
    ask()
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    ask(cache_dir=str(tmp_path / "link"))  # one's own
    os.lchown(tmp_path / "link", FOREIGN, FOREIGN)
    assert "it belongs to another user" in refusal(ask, cache_dir=str(tmp_path / "link"))


def swap_for_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("part", ["", "images.npy", "labels.npy", "about.json", "manifest.json"])
@pytest.mark.parametrize("how", [swap_for_a_link, lambda path: path.chmod(0o666 | (0o100 * path.is_dir()))])
def test_what_others_may_have_written_is_decoded_again(ask, tmp_path, caplog, part, how):
    data = ask()
    good = np.array(data.train.images)
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    # A consistent forgery: pixels of zero with their right hashes.
    (entry / "images.npy").write_bytes((entry / "images.npy").read_bytes()[:128] + bytes(good.nbytes))
    for name in ("manifest.json", "blocks.sha256"):
        (entry / name).unlink()
    cache._seal(entry)
    how(entry / part if part else entry)
    caplog.clear()
    again = ask()
    assert "is built again" in caplog.text
    assert np.array_equal(again.train.images, good)


def test_without_that_check_the_forgery_is_trained_on(ask, tmp_path, monkeypatch):
    data = ask()
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    size = np.array(data.train.images).nbytes
    (entry / "images.npy").write_bytes((entry / "images.npy").read_bytes()[:128] + bytes(size))
    for name in ("manifest.json", "blocks.sha256"):
        (entry / name).unlink()
    cache._seal(entry)
    entry.chmod(0o777)
    monkeypatch.setattr(cache, "foreign", lambda path, **_: None)
    assert not np.array(ask().train.images).any()


def test_a_note_that_others_may_have_written_does_not_rename_data(ask, tmp_path, monkeypatch):
    """``folder-*.json`` says what a folder's files contain, so a forged one would open another data set's pixels."""
    monkeypatch.setattr(content_hash, "STABLE_NS", -(10**12))  # files of just now count as settled
    honest = ask().origin
    (note,) = (tmp_path / "cache").glob("folder-*.json")
    kept = json.loads(note.read_bytes())
    note.write_text(json.dumps(kept | {"contents": "f" * 64}))
    note.chmod(0o666)
    assert ask().origin == honest
    note.write_text(json.dumps(kept | {"contents": "f" * 64}))
    note.chmod(0o600)
    assert ask().origin == "f" * 64  # the control: the user's own note is believed


# Whole


@pytest.fixture
def large(monkeypatch):
    """Every file counts as too large to be checked at once."""
    monkeypatch.setattr(cache, "AT_ONCE_BYTES", 0)


def damaged(ask, tmp_path):
    """A data set whose second block of pixels was zeroed after it was written."""
    ask()
    (images,) = (tmp_path / "cache").glob("*/images.npy")
    zero(images, BLOCK_BYTES + 100, 50_000)
    return ask()


ROWS_BEFORE, ROW_AFTER = np.arange(20), 30


def test_a_damaged_part_is_found_before_its_pixels_are_used(ask, tmp_path, large):
    data = damaged(ask, tmp_path)
    assert isinstance(data.train.images, CheckedMap)
    data.train.pixels(np.flatnonzero(np.isin(data.train.rows, ROWS_BEFORE)))
    with pytest.raises(RunError, match=r"the contents of images\.npy have changed, from byte 262144 on") as found:
        data.train.pixels(np.flatnonzero(data.train.rows == ROW_AFTER))
    assert "\n" not in str(found.value)
    again = ask()
    assert again.train.pixels(np.arange(40)).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("augment", [True, False])
def test_a_feed_checks_what_it_gathers(ask, tmp_path, large, augment, monkeypatch):
    from runner.config.schema import AugmentConfig

    data = damaged(ask, tmp_path)
    kind = {"device": torch.device("cpu"), "dtype": torch.float32, "channels_last": False}

    def use():
        feed = Feed(data.train, data, augment=AugmentConfig(flip=True) if augment else None, **kind)
        feed.batch(torch.arange(40), None)

    with pytest.raises(RunError, match="have changed"):
        use()
    monkeypatch.setattr(checked_map.Blocks, "_is_whole", lambda self, block: True)
    use()  # without the check nobody notices


def test_in_memory_everything_is_checked_at_once(ask, tmp_path, large):
    ask()
    (images,) = (tmp_path / "cache").glob("*/images.npy")
    zero(images, BLOCK_BYTES + 100, 50_000)
    with pytest.raises(RunError, match="have changed"):
        ask(cache="memory")


def test_small_caches_are_checked_at_once_and_built_again(ask, tmp_path, caplog):
    good = np.array(ask().train.images)
    (images,) = (tmp_path / "cache").glob("*/images.npy")
    zero(images, 300_000, 100)
    assert np.array_equal(ask().train.images, good)
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == [logging.WARNING]


def test_every_block_is_checked_once(ask, monkeypatch, large):
    ask()
    data, seen = ask(), []
    whole = checked_map.Blocks._is_whole
    monkeypatch.setattr(checked_map.Blocks, "_is_whole", lambda self, block: seen.append(block) or whole(self, block))
    for _ in range(3):
        for position in range(40):
            data.train.pixels(np.array([position]))
    assert sorted(seen) == [1]  # the first was checked with the header
    assert data.train.images.check_rows is None


def test_rows_larger_than_a_block_are_checked_to_their_end(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (3, 400, 400, 3), dtype=np.uint8))
    digests = checked_map.hash_blocks(path)
    assert len(digests) == 32 * -(-path.stat().st_size // BLOCK_BYTES)
    assert digests[:32] == hashlib.sha256(path.read_bytes()[:BLOCK_BYTES]).digest()
    for byte in (128 + 480_000, 128 + 2 * 480_000 - 1):
        content = path.read_bytes()
        zero(path, byte, 1)
        images = checked_map.map_checked(path, digests, on_damage=lambda error: error)
        if path.read_bytes() != content:
            with pytest.raises(checked_map.DamagedFileError):
                images.check_rows(np.array([1]))
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"[]",
        b'{"format": 2}',
        b'{"format": 2, "block_bytes": 262144, "files": [1]}',
        b'{"format": 2, "block_bytes": 262144, "files": {"images.npy": {"bytes": 1e400}}}',
        b'{"format": 2, "block_bytes": 262144, "files": {"images.npy": {"bytes": ' + b"9" * 5000 + b"}}}",
    ],
)
def test_a_crafted_manifest_is_one_warning(ask, tmp_path, caplog, content):
    good = np.array(ask().train.images)
    (manifest,) = (tmp_path / "cache").glob("*/manifest.json")
    manifest.write_bytes(content)
    manifest.chmod(0o600)
    assert np.array_equal(ask().train.images, good)
    (warning,) = (record for record in caplog.records if record.levelno > logging.INFO)
    assert "is damaged" in warning.message
    assert "\n" not in warning.message


def _named(stage, cache):
    def edit(config):
        config["data"]["cache_dir"] = str(cache)

    return crafted_run(stage, edit=edit)


@pytest.mark.parametrize("kind", ["new", "open", "within", "a file"])
def test_a_run_folder_does_not_say_where_images_go(kind, tmp_path):
    stage = Stage(tmp_path)
    cache = tmp_path / "run/cache" if kind == "within" else tmp_path / "sent"
    if kind == "a file":
        cache.touch(0o600)
    elif kind != "new":
        cache.mkdir(parents=True, mode=0o755 if kind == "open" else 0o700)
    run = _named(stage, cache)
    assert read_values(run).data.cache_dir == str(cache), "it is what the folder says"
    assert read_config(run).data.cache_dir is None


def test_a_cache_that_the_user_has_is_used_again(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    assert read_config(_named(Stage(tmp_path), tmp_path / "cache")).data.cache_dir == str(tmp_path / "cache")
