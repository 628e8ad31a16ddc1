"""A CSV file of paths and labels: the images, classes and splits that it says, and one line where it is wrong."""

import numpy as np
import pytest
from PIL import Image

from runner.config.schema import DataConfig
from runner.data.image_folder import load_image_folder
from runner.data.manifest import load_manifest
from runner.errors import RequestError

CLASSES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path):
    """Two classes in folders, eight images each."""
    numbers = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = numbers.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def config(folder, **options):
    return DataConfig(channels=3, image_size=6, cache="memory", cache_dir=str(folder.parent / "cache"), **options)


def write(folder, *lines, name="labels.csv"):
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


def rows(split=None):
    return [f"{name}/{n}.png,{name}" + (f",{split(n)}" if split else "") for name in CLASSES for n in range(8)]


def test_the_images_and_classes_are_those_of_the_folders(folder):
    found = load_manifest(config(folder), manifest=write(folder, "path,label", *rows()))
    folders = load_image_folder(config(folder, root=str(folder)))
    assert found.classes == folders.classes == CLASSES
    assert found.train.names == folders.train.names
    assert (found.train.labels == folders.train.labels).all()
    assert (found.train.pixels(np.arange(16)) == folders.train.pixels(np.arange(16))).all()
    assert found.val is found.test is None
    assert found.contents.name == folders.contents.name
    assert found.fingerprint != folders.fingerprint


def test_splits_roots_byte_order_marks_and_further_columns(folder, tmp_path):
    lines = [f"{i},{row}" for i, row in enumerate(rows(lambda n: ("Training", "valid", "test")[n % 3]))]
    table = write(tmp_path, "\ufeffNo, Path, LABEL, Split", *lines)
    found = load_manifest(config(folder, root=str(folder)), manifest=table)
    assert [len(part) for part in (found.train, found.val, found.test)] == [6, 6, 4]
    assert set(found.val.names) == {f"{name}/{n}.png" for name in CLASSES for n in (1, 4, 7)}
    assert found.places == dict.fromkeys(("train", "val", "test"), "labels.csv")


def test_numbers_are_sorted_as_numbers_and_another_label_is_another_data_set(folder):
    many = [f"cat/{n}.png,{n + 5}" for n in range(8)]
    found = load_manifest(config(folder), manifest=write(folder, "path,label", *many))
    assert found.classes == ("5", "6", "7", "8", "9", "10", "11", "12")
    assert found.train.labels.tolist() == list(range(8))
    swapped = load_manifest(
        config(folder), manifest=write(folder, "path,label", *many[:-2], "cat/6.png,12", "cat/7.png,11")
    )
    assert swapped.fingerprint != found.fingerprint
    assert swapped.origin == found.origin


def test_bad_files_are_refused_or_left_out(folder):
    (folder / "cat" / "0.png").write_bytes(b"no image")
    table = write(folder, "path,label", *rows())
    with pytest.raises(RequestError, match=r"data.root: got cat/0.png \(cannot be decoded"):
        load_manifest(config(folder), manifest=table)
    found = load_manifest(config(folder, on_bad_file="skip"), manifest=table)
    assert len(found.train) == 15


WRONG = [
    (["file,label", "cat/0.png,cat"], "no column path, but file, label"),
    (["path,class", "cat/0.png,cat"], "no column label"),
    ([], "no column path, but nothing"),
    (["path,label"], "no image to train on"),
    (["path,label", "cat/0.png,cat"], "one class to train on, cat"),
    (["path,label", "cat/0.png"], r"line 2 \(a row of another length"),
    (["path,label", "cat/0.png,cat,dog"], r"line 2 \(a row of another length"),
    (["path,label", "cat/0.png,"], "an empty field"),
    (["path,label", "cat/0.png,cat", "cat/0.png,dog"], r"line 3 \(cat/0.png again, after line 2"),
    (["path,label", "cat/0.png,cat", "dog/99.png,dog"], r"line 3 \(no file dog/99.png"),
    (["path,label", "cat/0.png,cat", "../x.png,dog"], r"line 3 \('../x.png' is not below"),
    (["path,label", "cat/0.png,cat", "dog,dog"], r"line 3 \(no file dog"),
    (["path,label,split", "cat/0.png,cat,train", "dog/0.png,dog,tain"], r"split tain.*did you mean train"),
    (["path,label,split", "cat/0.png,cat,train", "dog/0.png,dog,train", "dog/1.png,dgo,val"], "dgo of val.*mean dog"),
    (["path,label", '"cat/0.png,cat'], "unexpected end of data"),
]


@pytest.mark.parametrize(("lines", "words"), WRONG)
def test_a_wrong_table_is_one_line(folder, lines, words):
    with pytest.raises(RequestError, match=words) as caught:
        load_manifest(config(folder), manifest=write(folder, *lines))
    assert caught.value.key == "data.manifest"
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_and_one_that_is_not_there(folder):
    (folder / "labels.csv").write_bytes(b"path,label\n\xff\xfe\x00,cat\n")
    with pytest.raises(RequestError, match="can't decode"):
        load_manifest(config(folder), manifest=str(folder / "labels.csv"))
    for manifest, words in ((None, "null"), (str(folder / "no.csv"), "does not exist"), (str(folder), "a folder")):
        with pytest.raises(RequestError, match=words):
            load_manifest(config(folder), manifest=manifest)
