"""Data sets of the library datasets: the same images, classes and splits that a folder of the files gives."""

import io

import numpy as np
import pytest
from PIL import Image

from runner.config.schema import DataConfig
from runner.data.hugging_face import load_hugging_face
from runner.data.image_folder import load_image_folder
from runner.errors import RequestError

datasets = pytest.importorskip("datasets")
CLASSES = ("cat", "dog")


def encoded(number):
    """A PNG file; every other one is grey with transparency, which becomes white."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 2 if number % 2 else 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def part(numbers, label=None, **columns):
    """Rows of the images ``numbers``; odd ones are dogs."""
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(CLASSES))}
    rows = {
        "picture": [{"bytes": encoded(number), "path": None} for number in numbers],
        "kind": [number % 2 if label is None else label for number in numbers],
    }
    for name, (feature, values) in columns.items():
        features[name], rows[name] = feature, values
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hf") / "pets"
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": part(range(8)), "validation": part(range(8, 12))}).save_to_disk(str(path))
    return path


def config(folder, **options):
    return DataConfig(channels=3, image_size=6, cache="memory", cache_dir=str(folder.parent / "cache"), **options)


def load(folder, **options):
    return load_hugging_face(config(folder), dataset=str(folder), **options)


def test_images_and_classes_are_those_of_files(folder, tmp_path):
    for number in range(12):
        place = tmp_path / ("train" if number < 8 else "val") / CLASSES[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.png").write_bytes(encoded(number))
    files, found = load_image_folder(config(tmp_path / "any", root=str(tmp_path))), load(folder)
    assert found.classes == files.classes == CLASSES
    assert (len(found.train.labels), len(found.val.labels), found.test) == (8, 4, None)
    for ours, theirs in ((found.train, files.train), (found.val, files.val)):
        order = np.argsort(ours.labels, kind="stable")
        assert (ours.labels[order] == theirs.labels).all()
        assert (ours.pixels(order) == theirs.pixels(np.arange(len(order)))).all()


def test_one_part_columns_by_name_and_labels_that_are_words(tmp_path):
    rows = part(range(4), name=(datasets.Value("string"), ["b", "a", "b", "a"]),
                number=(datasets.Value("int64"), [10, 9, 10, 9]))  # fmt: skip
    rows.save_to_disk(str(tmp_path / "one"))
    assert load(tmp_path / "one", label_column="name").classes == ("a", "b")
    assert load(tmp_path / "one", label_column="number").classes == ("9", "10")
    assert load(tmp_path / "one", label_column="name").train.labels.tolist() == [1, 0, 1, 0]
    other = load(tmp_path / "one", label_column="number")
    assert other.fingerprint != load(tmp_path / "one").fingerprint, "another column is other data"


def test_a_name_of_the_hub_is_read_from_the_files_that_were_fetched(folder, monkeypatch):
    asked = []

    def fetched(name, subset, *, revision):
        asked.append((name, subset, revision))
        return datasets.load_from_disk(str(folder))

    monkeypatch.setattr(datasets, "load_dataset", fetched)
    found = load_hugging_face(config(folder), dataset="owner/pets", subset="small", revision="v1")
    assert asked == [("owner/pets", "small", "v1")]
    assert (len(found.train.labels), len(found.val.labels)) == (8, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_column": "kind"}, "data.image_column: got kind, expected a column with images: picture"),
        ({"image_column": "pictures"}, "expected one of picture, kind; did you mean picture?"),
        ({"label_column": "kinds"}, "data.label_column: got kinds, expected one of picture, kind; did you mean kind?"),
        ({"splits": {"val": "validation"}}, "data.splits: got val, expected train and optionally val and test"),
        ({"splits": {"train": "trian"}}, "data.splits.train: got trian, expected one of train, validation"),
        ({"subset": "small"}, "data.subset: got small, expected null"),
        ({"revision": "main"}, "data.revision: got main, expected null"),
        ({"dataset": "/no/such"}, "data.dataset: got /no/such (does not exist)"),
        ({"dataset": None}, "data.dataset: got null, expected a folder that save_to_disk wrote"),
        ({"dataset": "."}, "(no dataset_dict.json or dataset_info.json), expected a folder that save_to_disk wrote"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_what_is_wrong_is_one_line(folder, options, words):
    with pytest.raises(RequestError) as refused:
        load_hugging_face(config(folder), **({"dataset": str(folder)} | options))
    assert words in str(refused.value)


def test_unusual_names_of_splits_are_asked_for(tmp_path):
    folder = tmp_path / "odd"
    datasets.DatasetDict({"train": part(range(4)), "extra": part(range(4, 8)), "test": part([8, 9], label=-1)}
                         ).save_to_disk(str(folder))  # fmt: skip
    with pytest.raises(RequestError, match=r"data.splits.test: got 2 of 2 examples without a kind"):
        load(folder)
    found = load(folder, splits={"train": "train", "test": "extra"})
    assert (len(found.train.labels), found.val, len(found.test.labels)) == (4, None, 4)


def test_a_damaged_folder_and_a_missing_image_are_told(tmp_path):
    folder = tmp_path / "damaged"
    part(range(4)).save_to_disk(str(folder))
    next(folder.glob("*.arrow")).write_bytes(b"nothing")
    with pytest.raises(RequestError, match=r"data.dataset: got .*damaged \("):
        load(folder)
    rows = part([0, 1]).to_dict() | {"picture": [{"bytes": encoded(0), "path": None}, None]}
    datasets.Dataset.from_dict(rows, features=part([0]).features).save_to_disk(str(tmp_path / "hole"))
    with pytest.raises(RequestError, match="there is no image"):
        load(tmp_path / "hole")
