"""What is said of a folder before figures on it are believed: repeats, classes without images, files left out."""

import shutil
import unicodedata

import pytest
from image_files import class_folders, noise, put

from runner.config.schema import DataConfig
from runner.data import open
from runner.data.folders import content_hash, folder_layout
from runner.data.open import open_data
from runner.errors import RequestError


@pytest.fixture
def ask(tmp_path):
    def ask(root, **keys):
        fixed = {"target": "runner.data.image_folder.load_image_folder", "name": "photos", "root": str(root)}
        return open_data(DataConfig(**fixed | {"cache_dir": str(tmp_path / "cache")} | keys))

    return ask


@pytest.fixture
def root(tmp_path):
    return class_folders(tmp_path / "photos", per_class=6, size=(8, 8))


def refusal(ask, root, **keys):
    with pytest.raises(RequestError) as caught:
        ask(root, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Repeated images


def test_a_split_that_repeats_another_is_said_each_time(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(content_hash, "STABLE_NS", -(10**12))
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        for number, kind in enumerate(("cat", "dog")):
            for i in range(4):
                put(tmp_path / "p" / split / kind / f"{i}.png", noise(seed=100 * seed + 10 * number + i))
    assert ask(tmp_path / "p").notes == ()
    shutil.copy(tmp_path / "p/train/cat/2.png", tmp_path / "p/val/cat/9.png")
    shutil.copy(tmp_path / "p/train/dog/2.png", tmp_path / "p/test/dog/3.png")
    shutil.copy(tmp_path / "p/val/dog/1.png", tmp_path / "p/test/dog/1.png")
    shutil.copy(tmp_path / "p/train/dog/0.png", tmp_path / "p/train/cat/0.png")
    told = (
        "1 of 9 validation images repeats a training image, byte by byte: val/cat/9.png is train/cat/2.png",
        "1 of 8 test images repeats a training image, byte by byte: test/dog/3.png is train/dog/2.png",
        "1 of 8 test images repeats a validation image, byte by byte: test/dog/1.png is val/dog/1.png",
        "1 image in more than one class: train/cat/0.png is train/dog/0.png",
    )
    assert ask(tmp_path / "p").notes == told
    assert list((tmp_path / "cache").glob("folder-*.json"))
    assert ask(tmp_path / "p").notes == told  # out of the note, no file was read
    monkeypatch.setattr(content_hash, "_repeats", lambda digests: ())
    shutil.rmtree(tmp_path / "cache")
    assert ask(tmp_path / "p").notes == ()  # without the comparison nobody would know


def test_a_copy_that_the_held_out_part_takes_is_said(ask, root):
    for i in range(6):
        shutil.copy(root / "cat" / f"{i:03}.png", root / "cat" / f"copy{i}.png")
    (note,) = ask(root, test_fraction=0.5, val_fraction=0).notes
    assert "of 9 test images repeat" in note


def test_shares_that_change_nothing_are_said(ask, tmp_path):
    for split, seed in (("train", 0), ("val", 1)):
        for number, kind in enumerate(("cat", "dog")):
            for i in range(4):
                put(tmp_path / "p" / split / kind / f"{i}.png", noise(seed=100 * seed + 10 * number + i))
    assert ask(tmp_path / "p").notes == ()
    own = "changes nothing: the data have a validation split of their own"
    assert ask(tmp_path / "p", test_fraction=0.5, val_fraction=0.2).notes == (
        f"data.test_fraction=0.5 {own}",
        f"data.val_fraction=0.2 {own}",
    )
    assert ask(tmp_path / "p", fold=0, folds=2, test_fraction=0.5).notes == ()


# Classes without an image


def test_a_class_of_which_nothing_can_be_read_is_refused(ask, root, monkeypatch):
    for path in (root / "cat").iterdir():
        path.write_bytes(b"no image")
    for cache in ("disk", "memory", "off"):
        said = refusal(ask, root, on_bad_file="skip", cache=cache)
        assert said.startswith(
            "data.root: got class cat (no training image of it can be read; cat/000.png (none of the"
        )
    monkeypatch.setattr(open, "_refuse_lost_classes", lambda decoded: None)
    assert (
        "1 class without a training image: cat"
        in ask(root, on_bad_file="skip", fold=None, test_fraction=0, val_fraction=0).notes
    )


def test_a_split_without_a_readable_image_of_a_class_is_said(ask, tmp_path):
    for split, size in (("train", 8), ("val", 9)):
        class_folders(tmp_path / "p" / split, per_class=2, size=(size, size))
    for path in (tmp_path / "p/val/dog").iterdir():
        path.write_bytes(b"")
    assert ask(tmp_path / "p", on_bad_file="skip", image_size=8).notes == ("1 class without a validation image: dog",)


def test_a_class_of_links_or_other_files_is_refused_by_what_they_are(ask, root, tmp_path):
    shutil.rmtree(root / "cat")
    put(root / "cat" / "IMG_1.HEIC", b"x")
    assert "cat (no images: 1 file left out, of formats that are not decoded: 1 HEIC; the first is" in refusal(
        ask, root
    )
    (root / "cat/IMG_1.HEIC").rename(root / "cat/readme.txt")
    assert "cat (no images, but 1 other file, such as cat/readme.txt)" in refusal(ask, root)
    (root / "cat/readme.txt").unlink()
    (root / "cat/a.png").symlink_to(put(tmp_path / "a.png", noise()))
    said = refusal(ask, root, on_bad_file="skip")
    assert "cat (no image that can be read: cat/a.png, the link leaves the folder)" in said


# Formats, links, letters


def test_formats_that_are_not_decoded_are_counted_on_the_console(ask, root):
    for name in ("a.HEIC", "b.heif", "c.DNG", "notes.txt"):
        put(root / "dog" / name, b"x")
    assert ask(root).notes == (
        "3 files left out, of formats that are not decoded: 2 HEIC, 1 camera raw; the first is dog/a.HEIC; as JPEG or"
        " PNG they would be read",
    )


def test_links_are_followed_where_that_is_asked(ask, root, tmp_path):
    names = ask(root, val_fraction=0, test_fraction=0).train.names
    near = tmp_path / "near"
    near.mkdir()
    for kind in ("cat", "dog"):
        (near / kind).symlink_to(root / kind)
    said = refusal(ask, near)
    assert "got cat (cannot be decoded: the link leaves the folder, one of 2)" in said
    assert said.endswith("data.follow_links=true follows links")
    assert "no class folders beside 2 links to folders; data.follow_links=true" in refusal(
        ask, near, on_bad_file="skip"
    )
    data = ask(near, follow_links=True, val_fraction=0, test_fraction=0)
    assert data.train.names == names
    assert data.origin == ask(root).origin
    (root / "cat" / "round").symlink_to(near)  # leads to the links, which lead back
    (root / "cat" / "up").symlink_to(tmp_path)
    said = refusal(ask, near, follow_links=True)
    assert "the link leads to a folder that it lies in" in said
    assert "data.follow_links" not in said


def test_a_class_is_the_same_however_its_letters_are_composed(ask, tmp_path, monkeypatch):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    class_folders(tmp_path / "p/train", classes=("bar", composed), per_class=2, size=(8, 8))
    class_folders(tmp_path / "p/val", classes=("bar", apart), per_class=2, size=(8, 8))
    data = ask(tmp_path / "p")
    assert data.classes == ("bar", composed)
    assert data.val.labels.tolist() == [0, 0, 1, 1]
    class_folders(tmp_path / "p/train", classes=(apart,), per_class=2, size=(8, 8))
    assert "two folders called café" in refusal(ask, tmp_path / "p")
    shutil.rmtree(tmp_path / "p/train" / apart)
    monkeypatch.setattr(folder_layout, "same_name", lambda name: name)
    assert "that differ in" in refusal(ask, tmp_path / "p")
