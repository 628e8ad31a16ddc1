"""Folders that are classes give labels; of those that are nearly classes, one line says which and what was meant."""

from pathlib import Path

import pytest

from runner.inference.class_folders import labels_by_folder

CLASSES = ("car", "cat", "deer", "dog")


def ask(*names):
    labels, note = labels_by_folder(names, CLASSES, root=Path("photos"))
    assert note is None or "\n" not in note
    return None if labels is None else labels.tolist(), note


def test_folders_that_are_all_classes_are_labels():
    assert ask("dog/a.png", "cat/inner/b.png", "dog/c.png") == ([3, 1, 3], None)


def test_files_in_no_folder_are_predicted_without_a_word():
    assert ask("a.png", "b.png") == (None, None)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["Cat/a.png", "Cat/b.png"], "the folder Cat (2 images) is no class of the run; did you mean cat?"),
        (["cat/a.png", "deers/a.png"], "the folder deers (1 image) is no class of the run; did you mean deer?"),
        (
            ["Cat/a.png", "DOG/a.png", "car/a.png"],
            "2 folders are no classes of the run, the first is Cat (1 image); did you mean cat?",
        ),
        (
            ["2026/a.png"],
            "the folder 2026 (1 image) is no class of the run, which are car, cat, deer, ...",
        ),
        (
            ["test/cat/a.png", "test/dog/a.png", "train/cat/a.png"],
            "2 folders are no classes of the run, the first is test (2 images); did you mean images=photos/test?",
        ),
        (["a.png", "b.png", "cat/a.png"], "2 images lie in no class folder, the first is a.png"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_class_is_named_with_what_was_meant(names, says):
    assert ask(*names) == (None, f"predictions only, no metrics: {says}")
