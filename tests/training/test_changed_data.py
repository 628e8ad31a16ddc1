"""A run does not go on with other data, and says in words which files are other ones."""

import shutil

import pytest

from runner.data.cache.folder_cache import Cache
from runner.data.folders import changed_files, content_hash
from runner.errors import RequestError
from runner.execution.job import run_job
from tests.data.image_files import class_folders, noise, put


@pytest.fixture
def begun(train, configure, tmp_path, monkeypatch):
    """begun() -> a finished run on class folders, and again(...) that starts it once more in its folder."""
    monkeypatch.setattr(content_hash, "STABLE_NS", -(10**12))  # files of this moment are not trusted to stay
    root = class_folders(tmp_path / "photos", per_class=12)
    recipe = ("data=image_folder", f"data.root={root}", "model=linear", "trainer.steps=2", "hardware.threads=1")
    run_dir = train(*recipe)

    def again(*more):
        with pytest.raises(RequestError) as refused:
            run_job(configure("tracker=none", *recipe, *more), {}, run_dir, None)
        return str(refused.value)

    return root, again, run_dir


def test_files_that_have_changed_are_counted_and_named(begun):
    root, again, run_dir = begun
    kept = root / "dog" / "003.png"
    shutil.copy(kept, root.parent / "kept.png")
    put(root / "cat" / "new.png", noise(seed=5000))
    put(root / "cat" / "newer.png", noise(seed=5001))
    kept.unlink()
    put(root / "dog" / "004.png", noise(seed=5002))
    line = again()
    assert line.startswith(
        "data: got 2 files more (cat/new.png, ...) and 1 file less (dog/003.png) and 1 file with other contents"
        " (dog/004.png) ("
    )
    assert f"expected the images that the run was begun with, as in the checkpoints of {run_dir}" in line
    # a list that is gone leaves the numbers
    for note in Cache(None).root.glob("files-*.json"):
        note.unlink()
    assert again().startswith("data: got images with other contents (18 training images, 17 when")


def test_the_same_files_split_otherwise(begun):
    _, again, _ = begun
    assert again("data.split_seed=1").startswith("data: got the same images, decoded, split or limited otherwise (")
    assert "when the run was begun" in again("data.limit=4")
    assert again("data.image_size=8").startswith("data.image_size: got 8, expected 16, as in the checkpoints")


def test_of_very_many_files_no_list_is_kept(tmp_path, monkeypatch):
    cache = Cache(str(tmp_path / "cache"))
    monkeypatch.setattr(changed_files, "MOST_FILES", 1)
    changed_files.keep_list(cache, "a" * 64, ["x", "y"], [b"1", b"2"])
    changed_files.keep_list(cache, "b" * 64, ["x"], [b"1"])
    assert changed_files.changed_files(cache, "a" * 64, "b" * 64) is None
