"""Which folders of data.root are splits: understood under any usual name, said, or refused in one line."""

import json
import unicodedata

import pytest
from image_files import class_folders, put

from runner.data.folders import arrangement
from runner.data.folders.arrangement import arrange
from runner.data.folders.split_names import is_fold, roles_of
from runner.data.image_folder import is_image
from runner.errors import RequestError


def tree(root, paths):
    """Empty files; ``a/b/`` makes a folder, and a path without a suffix three images in that folder."""
    for path in paths.split():
        if path.endswith("/"):
            (root / path).mkdir(parents=True)
        else:
            for name in [path] if "." in path else [f"{path}/{i}.png" for i in range(3)]:
                put(root / name, b"")
    return root


def arranged(root, **keys):
    return arrange(root, wanted=is_image, **keys)


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        ("Train/a Train/b Val/a Val/b Test/a Test/b", {"train": "Train", "val": "Val", "test": "Test"}),
        ("TRAINING/a VALID/a hold-out/a", {"train": "TRAINING", "val": "VALID", "test": "hold-out"}),
        ("training_set/a dev-set/a", {"train": "training_set", "val": "dev-set"}),
        ("TrainImages/a validation/a testing/a", {"train": "TrainImages", "val": "validation", "test": "testing"}),
        ("Training/a Validierung/a Test/a", {"train": "Training", "val": "Validierung", "test": "Test"}),
        ("Trainingsdaten/a Testdaten/a", {"train": "Trainingsdaten", "test": "Testdaten"}),
        ("entraînement/a validation/a", {"train": "entraînement", "val": "validation"}),
        ("imágenes_entrenamiento/a pruebas/a", {"train": "imágenes_entrenamiento", "test": "pruebas"}),
        ("treino/a validac\u0327a\u0303o/a", {"train": "treino", "val": "validac\u0327a\u0303o"}),
        ("addestramento/a prova/a", {"train": "addestramento", "test": "prova"}),
        ("train2017/a val2017/a", {"train": "train2017", "val": "val2017"}),
        ("train/a eval/a", {"train": "train", "test": "eval"}),
        ("train/a eval/a test/a", {"train": "train", "val": "eval", "test": "test"}),
        ("seg_train/a seg_test/a", {"train": "seg_train", "test": "seg_test"}),
        ("seg_train/seg_train/a seg_test/seg_test/a", {"train": "seg_train/seg_train", "test": "seg_test/seg_test"}),
        ("train/images/a val/images/a", {"train": "train/images", "val": "val/images"}),
        ("train/a labels.csv meta/train.txt", {"train": "train"}),
        ("train/a train/x.png val/a", {"train": "train", "val": "val"}),
        ("bus train", {"train": ""}),
        ("bus train/old train/new/", None),
        ("valid invalid", {"train": ""}),
        ("cat/left cat/right dog", {"train": ""}),
        ("cat dog __MACOSX/train/a", {"train": ""}),
    ],
)
def test_what_folders_are_taken_for(tmp_path, paths, splits):
    if splits is None:
        with pytest.raises(RequestError):
            arranged(tree(tmp_path, paths))
    else:
        assert arranged(tree(tmp_path, paths)).splits == splits


REFUSED = {
    "train/a Training/a": "2 folders for training: Training and train",
    "train/a test/a testing/a": "2 folders for the test: test and testing",
    "Test/x cat dog": "Test/ beside cat/ and dog/",
    "test cat dog": "test/ beside cat/ and dog/",
    "train/a cat dog": "train/ beside cat/ and dog/",
    "train/a val/a a b": "train/ and val/ beside a/ and b/",
    "valid/a test/a": "test/ and valid/ and no folder for training",
    "train val/a": "val/ and train/ without class folders",
    "train/a/ val/a": "val/ and train/ without images",
    "train/a PublicTest/a PrivateTest/a": "train/ beside PrivateTest/ and PublicTest/",
    "train test": "test/ and train/ with images in no class folder",
    "images/train images/val labels/train.txt": "train/ and val/ with images in no class folder",
    "train/a val": "val (3 images in no class folder)",
    "train/a val/": "val (no images)",
    "fold1/a fold1/b fold2/a fold2/b": "fold1/ and fold2/, each with a/ and b/",
    "2019/a 2019/b 2020/a 2020/b 2020/c": "2019/ and 2020/, each with a/ and b/",
    "fold_1 fold_2 fold_3 fold_4 fold_5": "fold_1/, fold_2/, fold_3/ and 2 more, which are called like folds",
    "trainA trainB testA testB": "testA/, testB/, trainA/ and trainB/",
    "cat/train cat/test dog/train dog/test": "cat/ and dog/, each with test/ and train/",
    "cat/train cat/test dog": "cat/test/ and cat/train/",
}


@pytest.mark.parametrize("paths", REFUSED)
def test_what_cannot_be_settled_is_one_line(tmp_path, paths):
    with pytest.raises(RequestError) as refused:
        arranged(tree(tmp_path, paths))
    assert REFUSED[paths] in str(refused.value)
    assert str(refused.value).startswith("data.root: got ")


def test_a_folder_of_the_same_classes_beside_two_splits_is_refused_and_named(tmp_path):
    tree(tmp_path, "train/a train/b test/a test/b extra/a extra/b")
    with pytest.raises(RequestError, match=r"test/ and train/ beside extra/, 6 images of the same classes\), expected"):
        arranged(tmp_path)
    settled = arranged(tmp_path, splits={"train": "train", "val": "extra", "test": "test"})
    assert settled.splits == {"train": "train", "val": "extra", "test": "test"}
    tree(tmp_path, "val/a val/b")
    assert "not extra/ (6 images): data.splits=" in arranged(tmp_path).notes[0], "all three splits are there"


def test_a_folder_of_other_classes_is_left_out_and_named(tmp_path):
    settled = arranged(tree(tmp_path, "train/a train/b test/a test/b extra/c drafts"))
    assert "not drafts/ and extra/ (6 images): data.splits=" in settled.notes[0]


def test_without_the_check_folds_and_tests_become_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(arrangement, "_refuse_classes_like_splits", lambda *a: None)
    for number, paths in enumerate(("fold1/a fold1/b fold2/a fold2/b", "test cat dog", "train test")):
        assert arranged(tree(tmp_path / str(number), paths)).splits == {"train": ""}


def test_a_folder_around_the_splits_is_opened(tmp_path):
    tree(tmp_path, "archive/Train/a archive/Test/a notes.txt")
    settled = arranged(tmp_path)
    assert settled.root == tmp_path / "archive"
    assert settled.splits == {"train": "Train", "test": "Test"}
    tree(tmp_path, "other/a")
    with pytest.raises(RequestError, match="archive/Test/ and archive/Train/"):
        arranged(tmp_path)


def test_the_user_can_say_which_splits_there_are(tmp_path):
    tree(tmp_path, "test cat dog one/a one/b two/a two/b")
    with pytest.raises(RequestError):
        arranged(tmp_path)
    assert arranged(tmp_path, splits={}).splits == {"train": ""}
    assert arranged(tmp_path, splits={"test": "two", "train": "one"}).splits == {"train": "one", "test": "two"}
    for wrong, told in (
        ({"trian": "one"}, "did you mean train?"),
        ({"test": "one"}, "without train"),
        ({"train": "one", "val": "one/a"}, "one/a within train: one"),
        ({"train": "three"}, "train: three, expected a folder in"),
        ({"train": "../x"}, "a folder in"),
        ({"train": "."}, "a folder in"),
        ({"train": 1}, "the folder of each split"),
        ("train", "the folder of each split"),
    ):
        with pytest.raises(RequestError) as refused:
            arranged(tmp_path, splits=wrong)
        assert told in str(refused.value)
        assert str(refused.value).startswith("data.splits: got ")


def test_a_flat_test_is_left_out_and_said(tmp_path):
    settled = arranged(tree(tmp_path, "train/a train/b Test"))
    assert settled.splits == {"train": "train"}
    assert settled.notes == (
        "Test/ holds 3 images and no class folders: it is left out; predict them with python -m runner infer run=FOLDER"
        f" images={tmp_path / 'Test'}",
    )
    assert all(file.path.startswith("train/") for file in settled.listing.files)
    tree(tmp_path, "test1/unknown")
    (tmp_path / "Test").rename(tmp_path / "pictures")
    with pytest.raises(RequestError):
        arranged(tmp_path)  # pictures/ may be anything
    (tmp_path / "pictures").rename(tmp_path / ".pictures")
    assert "test1/ holds 3 images" in arranged(tmp_path).notes[0]


def test_names_of_hostile_length_cost_nothing():
    assert roles_of(["dataset" * 36 + "x", "set" * 80 + "!"]) == {}
    assert not is_fold("fold" * 60)
    assert roles_of([unicodedata.normalize("NFD", "é"), "train"]) == {"train": "train"}


def test_a_run_says_what_it_took_for_what(command, tmp_path):
    for split, count in (("Train", 6), ("Val", 3), ("TEST", 2)):
        class_folders(tmp_path / "photos" / split, per_class=count, size=(4, 4))
    ask = ("data=image_folder", f"data.root={tmp_path / 'photos'}", "model=linear", "trainer.steps=1", "tracker=none")
    code, _, told = command(*ask, "hydra.run.dir=run")
    assert code == 0
    assert "2 classes: cat, dog\n" in told
    assert "  splits     12 train (Train/), 6 val (Val/), 4 test (TEST/)\n" in told
    assert [
        (s["name"], s["examples"]) for s in json.loads((tmp_path / "run/run.json").read_text())["plan"]["splits"]
    ] == [
        ("train", 12),
        ("val", 6),
        ("test", 4),
    ]
    code, _, told = command(*ask, "hydra.run.dir=other", "data.splits={train: Train}")
    assert code == 0
    assert "  splits     8 train (Train/), 2 val (held out of training), 2 test (held out of training)\n" in told
    (tmp_path / "photos/Train").rename(tmp_path / "photos/Trian")
    code, _, told = command(*ask, "hydra.run.dir=wrong")
    assert (code, told.count("\n")) == (2, 1)
    assert "TEST/ and Val/ beside Trian/" in told
