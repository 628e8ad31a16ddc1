import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from image_files import class_folders, encode, noise, put
from PIL import Image

from runner.config.schema import AugmentConfig, DataConfig
from runner.data.cache import folder_cache as cache
from runner.data.cache import storage
from runner.data.folders import content_hash
from runner.data.images import SkippedFile
from runner.data.open import open_data
from runner.errors import RequestError

SOURCE = "runner.data.image_folder.load_image_folder"


@pytest.fixture
def root(tmp_path):
    return class_folders(tmp_path / "photos")


@pytest.fixture
def ask(tmp_path):
    def ask(root, **keys):
        folder = str(tmp_path / "cache")
        return open_data(
            DataConfig(**{"target": SOURCE, "name": "photos", "root": root and str(root), "cache_dir": folder} | keys)
        )

    return ask


def refusal(ask, root, **keys):
    with pytest.raises(RequestError) as caught:
        ask(root, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def image_of(images, name):
    at = images.names.index(name)
    return images.images[images.rows[at]]


def builds(caplog):
    return sum("decoding" in record.message for record in caplog.records)


def every_name(data):
    return sorted(name for part in (data.train, data.val, data.test) if part is not None for name in part.names)


# Layouts


def test_class_folders_are_split_by_fractions(ask, root):
    data = ask(root, val_fraction=0.25, test_fraction=0.2)
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.val, data.test)] == [12, 4, 4]
    assert data.image_size == 16
    assert data.channels == 3
    assert every_name(data) == sorted(f"{kind}/{i:03}.png" for kind in ("cat", "dog") for i in range(10))
    for part in (data.train, data.val, data.test):
        for position, name in enumerate(part.names):
            assert np.array_equal(part.images[part.rows[position]], np.asarray(Image.open(root / name)))
            assert data.classes[part.labels[position]] == name.split("/")[0]


def test_folds_of_class_folders_part_the_files(ask, root):
    tests = [ask(root, fold=fold, folds=5).test.names for fold in range(5)]
    assert sorted(sum(tests, ())) == every_name(ask(root, val_fraction=0, test_fraction=0))
    assert "data.fold: got 5, expected a number from 0 to 4" in refusal(ask, root, fold=5, folds=5)


def test_a_class_may_be_called_train(ask, tmp_path):
    data = ask(class_folders(tmp_path / "vehicles", classes=("bus", "train")))
    assert data.classes == ("bus", "train")


def test_split_folders_are_kept_and_other_folders_left_alone(ask, tmp_path):
    root = tmp_path / "split"
    for split, count in (("train", 10), ("val", 4), ("test", 3)):
        class_folders(root / split, per_class=count)
    put(root / "drafts" / "cat" / "a.png", b"not looked at")
    data = ask(root)
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 8, 6]
    assert all(name.startswith("val/") for name in data.val.names)
    beside, _, more = data.notes[0].partition(": ")
    assert beside == "only train/, val/ and test/ are used, not drafts/ (1 image)"
    assert more == "data.splits={train: FOLDER, test: FOLDER} names others"


def test_without_val_it_is_held_out_of_train_and_without_test_there_is_none(ask, tmp_path):
    class_folders(tmp_path / "a" / "train")
    class_folders(tmp_path / "a" / "test", per_class=3)
    data = ask(tmp_path / "a", val_fraction=0.2)
    assert [len(part) for part in (data.train, data.val, data.test)] == [16, 4, 6]
    class_folders(tmp_path / "b" / "train")
    class_folders(tmp_path / "b" / "val", per_class=3)
    data = ask(tmp_path / "b")
    assert [len(data.train), len(data.val), data.test] == [20, 6, None]


def test_a_fold_leaves_the_sources_own_test_untouched(ask, tmp_path):
    class_folders(tmp_path / "a" / "train")
    class_folders(tmp_path / "a" / "test", per_class=3)
    data = ask(tmp_path / "a", fold=0, folds=5)
    assert all(name.startswith("train/") for name in every_name(data))
    assert len(data.test) == 4


def test_nested_files_capital_suffixes_and_inner_links_count(ask, root):
    put(root / "cat" / "deep" / "er" / "x.JPeG", noise(), format="JPEG")
    (root / "dog" / "copy.PNG").symlink_to(root / "dog" / "000.png")
    put(root / ".hidden" / "x.png", noise())
    put(root / "cat" / ".DS_Store", b"x")
    names = every_name(ask(root))
    assert {"cat/deep/er/x.JPeG", "dog/copy.PNG"} <= set(names)
    assert len(names) == 22


def test_files_without_use_are_mentioned(ask, root, caplog):
    put(root / "cat" / "notes.txt", b"x")
    put(root / "loose.png", noise())
    assert len(every_name(ask(root))) == 20
    assert "2 files below" in caplog.text
    assert "cat/notes.txt" in caplog.text


# Refusals


def test_roots_that_cannot_be_read(ask, tmp_path):
    assert refusal(ask, None).startswith("data.root: got null, expected a folder")
    assert "absent (does not exist)" in refusal(ask, tmp_path / "absent")
    assert "file (not a folder)" in refusal(ask, put(tmp_path / "file", b""))
    (tmp_path / "empty").mkdir()
    assert "(no class folders)" in refusal(ask, tmp_path / "empty")


def test_splits_a_level_too_deep_are_told_with_every_split(ask, tmp_path):
    for split in ("train", "test"):
        class_folders(tmp_path / "deep" / split / "x", per_class=3)
    told = refusal(ask, tmp_path / "deep")
    _, _, proposed = told.partition("did you mean ")
    assert proposed == f"data.root={tmp_path / 'deep'} 'data.splits={{train: train/x, test: test/x}}'?"
    data = ask(tmp_path / "deep", options={"splits": {"train": "train/x", "test": "test/x"}})
    assert (len(data.train) + len(data.val), len(data.test)) == (6, 6)
    (tmp_path / "deep/test/y").mkdir()
    assert "did you mean" not in refusal(ask, tmp_path / "deep"), "no proposal that would lose the test"


def test_one_class_is_refused_and_the_folder_below_is_proposed(ask, root, tmp_path):
    shutil.rmtree(root / "dog")
    assert "(one class folder, cat)" in refusal(ask, root)
    class_folders(tmp_path / "outer" / "inner")
    assert refusal(ask, tmp_path / "outer").endswith(f"did you mean {tmp_path / 'outer' / 'inner'}?")


def test_a_class_without_images_and_unequal_classes_are_refused(ask, root, tmp_path):
    (root / "emu").mkdir()
    assert f"data.root: got {root / 'emu'} (no images)" in refusal(ask, root)
    class_folders(tmp_path / "s" / "train")
    class_folders(tmp_path / "s" / "val", classes=("cat", "doggo"))
    assert "val/ and train/ that differ in dog, doggo" in refusal(ask, tmp_path / "s")


BAD = {
    "text.jpg": b"words",
    "empty.png": b"",
    "half.jpg": encode(noise((64, 64)), "JPEG")[:900],
    "bomb.png": encode(Image.new("1", (16000, 12000))),
}


@pytest.mark.parametrize("name", BAD)
def test_an_unreadable_file_is_named_or_skipped_and_counted(ask, root, name):
    put(root / "cat" / name, BAD[name])
    said = refusal(ask, root)
    assert said.startswith(f"data.root: got cat/{name} (cannot be decoded: ")
    assert said.endswith("), expected readable images; data.on_bad_file=skip leaves such files out")
    for _ in range(2):  # built, then out of the cache
        data = ask(root, on_bad_file="skip")
        (bad,) = data.skipped
        assert bad.file == f"cat/{name}"
        assert f"cat/{name} (cannot be decoded: {bad.reason})" in said
        assert len(every_name(data)) == 20
    # A cache made under skip must not make refuse forget.
    assert refusal(ask, root).startswith(f"data.root: got cat/{name} (cannot be decoded: ")


@pytest.mark.parametrize("mode", ["disk", "off"])
def test_the_limit_of_pixels_that_is_typed_counts_whatever_the_cache_knows(ask, root, mode):
    put(root / "cat" / "large.png", noise((20, 20)))
    keys = {"image_size": 16, "cache": mode, "on_bad_file": "skip"}
    all_read = ask(root, **keys)
    less = ask(root, **keys, max_pixels=256)
    assert less.skipped == (SkippedFile("cat/large.png", "more than 256 pixels, the limit of data.max_pixels"),)
    assert less.fingerprint != all_read.fingerprint
    # raised after a file was left out: the same data as those of a limit that was never lower
    raised = ask(root, **keys, max_pixels=400)
    assert (raised.skipped, raised.fingerprint) == ((), all_read.fingerprint)
    assert not ask(root, **keys).skipped
    if mode == "disk":  # without a cache, a file is decoded where it is needed
        assert "cat/large.png" in refusal(ask, root, **keys | {"on_bad_file": "refuse"}, max_pixels=256)
    assert "none can be decoded" in refusal(ask, root, **keys | {"image_size": None}, max_pixels=255)


def test_links_that_leave_the_folder_are_bad_files(ask, root, tmp_path):
    outside = put(tmp_path / "outside.png", noise())
    (root / "cat" / "out.png").symlink_to(outside)
    assert "cat/out.png (cannot be decoded: the link leaves the folder)" in refusal(ask, root)
    (root / "cat" / "out.png").unlink()
    (root / "cat" / "gone.png").symlink_to(root / "nothing.png")
    assert "cat/gone.png (cannot be decoded: the link leads nowhere)" in refusal(ask, root)
    (root / "cat" / "gone.png").unlink()
    (root / "cat" / "round").symlink_to(root)
    assert "cat/round (cannot be decoded: the link leads to a folder)" in refusal(ask, root)
    data = ask(root, on_bad_file="skip")
    assert data.skipped == (SkippedFile("cat/round", "the link leads to a folder"),)
    assert len(every_name(data)) == 20


def test_only_bad_files_leave_nothing_to_train_on(ask, tmp_path):
    for name in ("cat/a.png", "dog/a.png"):
        put(tmp_path / "r" / name, b"x")
    assert "2 files of which none can be decoded" in refusal(ask, tmp_path / "r", on_bad_file="skip")


def test_sizes_must_agree_unless_one_is_given(ask, root):
    put(root / "dog" / "big.png", noise((40, 20)))
    said = refusal(ask, root)
    assert said == (
        "data.image_size: got null with dog/big.png of 40 x 20 pixels among others of 16 x 16, "
        "expected a size in pixels, such as 224, where images differ in size"
    )
    assert ask(root, image_size=12).train.images.shape[1:] == (12, 12, 3)
    oblong = class_folders(root.parent / "oblong", size=(16, 12))
    assert "null with cat/000.png of 16 x 12 pixels" in refusal(ask, oblong)


def test_a_folder_of_photos_of_every_kind(ask, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    root = class_folders(tmp_path / "mixed", size=(90, 70))
    put(root / "cat" / "turned.jpg", noise((120, 80)), exif=exif)
    put(root / "cat" / "grey.png", noise((50, 60), mode="L"))
    put(root / "cat" / "alpha.png", noise((50, 60), mode="RGBA"))
    put(root / "cat" / "sixteen.png", Image.fromarray(np.full((70, 50), 40000, np.uint16)))
    put(root / "dog" / "palette.png", noise((99, 33)).quantize(16), transparency=3)
    put(root / "dog" / "print.jpg", noise((64, 64), mode="CMYK"))
    put(root / "dog" / "moving.gif", noise((64, 80)), save_all=True, append_images=[noise((64, 80), 1)])
    data = ask(root, image_size=32, val_fraction=0, test_fraction=0)
    assert len(data.train) == 27
    assert data.train.images.shape == (27, 32, 32, 3)
    assert (image_of(data.train, "cat/sixteen.png") == 156).all()
    assert ask(root, image_size=32, channels=1, mean=[0.5], std=[0.2]).channels == 1


# The cache


def test_an_unchanged_folder_is_opened_without_reading_it(ask, root, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(content_hash, "STABLE_NS", -(10**12))
    first = ask(root)
    assert builds(caplog) == 1
    opened = []
    recording = [True]
    # Hooks of the interpreter cannot be taken back, hence the switch.
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" and recording else None)
    again = ask(root)
    recording.clear()
    assert builds(caplog) == 1
    assert any("images.npy" in path for path in opened)
    assert not [path for path in opened if path.startswith(f"{root}/") and path.endswith(".png")]
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.train.rows, first.train.rows)


def test_a_folder_that_has_just_changed_is_read_again(ask, root, tmp_path):
    ask(root)
    assert not list((tmp_path / "cache").glob("folder-*.json"))


def test_contents_decide_and_not_times_or_places(ask, root, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = ask(root)
    for path in root.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    assert ask(root).fingerprint == first.fingerprint
    shutil.copytree(root, tmp_path / "elsewhere")
    assert ask(tmp_path / "elsewhere").fingerprint == first.fingerprint
    assert builds(caplog) == 1


def test_a_changed_file_of_the_same_size_and_time_is_noticed(ask, root, monkeypatch):
    monkeypatch.setattr(content_hash, "STABLE_NS", -(10**12))
    put(root / "cat" / "a.bmp", noise(seed=50))
    first = ask(root, val_fraction=0, test_fraction=0)
    before = (root / "cat" / "a.bmp").stat()
    put(root / "cat" / "a.bmp", noise(seed=51))
    os.utime(root / "cat" / "a.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (root / "cat" / "a.bmp").stat().st_size == before.st_size
    second = ask(root, val_fraction=0, test_fraction=0)
    assert second.fingerprint != first.fingerprint
    assert np.array_equal(image_of(second.train, "cat/a.bmp"), np.asarray(noise(seed=51)))
    assert np.array_equal(image_of(first.train, "cat/a.bmp"), np.asarray(noise(seed=50)))


def test_a_change_behind_a_link_is_noticed(ask, root, monkeypatch):
    monkeypatch.setattr(content_hash, "STABLE_NS", -(10**12))
    hidden = put(root / ".store" / "a.png", noise(seed=50))
    (root / "cat" / "a.png").symlink_to(hidden)
    first = ask(root)
    put(hidden, noise(seed=51))
    assert ask(root).fingerprint != first.fingerprint


def test_added_removed_and_renamed_files_are_noticed(ask, root):
    prints = [ask(root).fingerprint]
    put(root / "cat" / "new.png", noise(seed=77))
    prints.append(ask(root).fingerprint)
    (root / "cat" / "new.png").rename(root / "dog" / "new.png")
    prints.append(ask(root).fingerprint)
    (root / "dog" / "new.png").unlink()
    prints.append(ask(root).fingerprint)
    assert prints[0] == prints[3]
    assert len(set(prints)) == 3


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)


def flip_a_byte(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 0xFF
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.npy", truncate),
        ("images.npy", flip_a_byte),
        ("labels.npy", flip_a_byte),
        ("about.json", flip_a_byte),
        ("manifest.json", truncate),
        ("labels.npy", lambda path: path.unlink()),
    ],
)
def test_a_damaged_cache_is_built_again_with_a_warning(ask, root, tmp_path, caplog, name, damage):
    data = ask(root)
    good = np.array(data.train.images)
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    damage(path)
    caplog.clear()
    again = ask(root)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text
    assert np.array_equal(again.train.images, good)
    assert np.array_equal(again.train.labels, data.train.labels)
    caplog.clear()
    ask(root)
    assert not caplog.records
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_cache_too_large_to_hash_at_once_is_known_by_its_size_at_once(ask, root, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cache, "AT_ONCE_BYTES", 0)
    ask(root)
    (images,) = (tmp_path / "cache").glob("*/images.npy")
    truncate(images)
    ask(root)
    assert "instead of" in caplog.text


def open_and_sum(root, cache, barrier, results):
    barrier.wait()
    data = open_data(DataConfig(target=SOURCE, name="x", root=root, cache_dir=cache))
    results.put((data.fingerprint, int(np.asarray(data.train.images, dtype=np.int64).sum())))


def test_processes_may_build_at_once(root, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (str(root), str(tmp_path / "cache"), barrier, results)
    workers = [context.Process(target=open_and_sum, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(set(answers)) == 1
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_a_file_that_changes_while_it_is_read_stops_the_build(ask, root, tmp_path, monkeypatch):
    def write_then_meddle(*args, **kwargs):
        real(*args, **kwargs)
        put(root / "cat" / "000.png", noise(seed=5))

    real = storage.write_store
    monkeypatch.setattr(storage, "write_store", write_then_meddle)
    with pytest.raises(RuntimeError, match="changed while they were being read"):
        ask(root)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_what_killed_builders_left_goes_after_a_day_and_not_before(ask, root, tmp_path):
    old, busy, young = (tmp_path / "cache" / f".{name}.0" for name in ("old", "busy", "young"))
    for draft in (old, busy, young):
        put(draft / "images.npy", b"x")
    yesterday = time.time() - 90_000
    for path in (old / "images.npy", old, busy):
        os.utime(path, (yesterday, yesterday))
    ask(root)
    assert [old.exists(), busy.exists(), young.exists()] == [False, True, True]


def test_the_root_and_the_split_folders_may_be_links(ask, tmp_path):
    class_folders(tmp_path / "far" / "train")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "train").symlink_to(tmp_path / "far" / "train")
    (tmp_path / "link").symlink_to(tmp_path / "near")
    assert len(every_name(ask(tmp_path / "link"))) == 20


def test_a_cache_folder_that_cannot_be_used(ask, root, tmp_path):
    file = put(tmp_path / "file", b"")
    assert refusal(ask, root, cache_dir=str(file / "x"), cache="disk").startswith(
        f"data.cache_dir: got {file / 'x'} (Not a directory)"
    )


def test_a_full_disk_is_a_refusal_and_not_a_crash(root, tmp_path):
    config = DataConfig(target=SOURCE, root=str(root), image_size=64, cache_dir=str(tmp_path / "c"))
    program = (
        "import resource\n"
        "from runner.config.schema import *\n"
        "from runner.data.open import open_data\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"open_data({config!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "data.cache_dir: got " in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "c").iterdir())


def test_the_default_cache_follows_xdg(root, tmp_path, monkeypatch, ask):
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        ask(root, cache_dir=None)
    assert list((tmp_path / "xdg" / "recipe-runner").glob("*/images.npy"))


# Random resized crops


def test_a_margin_serves_training_and_leaves_validation_as_it_was(ask, tmp_path):
    root = class_folders(tmp_path / "photos", size=(60, 50))
    plain = ask(root, image_size=28)
    cropped = ask(root, image_size=28, augment=AugmentConfig(random_resized_crop=True))
    assert cropped.train.images.shape == (20, 32, 32, 3)
    assert cropped.image_size == 28
    for part in ("val", "test"):
        one, other = getattr(plain, part), getattr(cropped, part)
        assert np.array_equal(one.images[one.rows], other.images[other.rows])
    assert cropped.fingerprint == plain.fingerprint
