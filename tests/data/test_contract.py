"""What a source of one's own may return: read in the one right way, or refused in a line that says what is allowed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from runner.config.schema import DataConfig
from runner.data import contract
from runner.data.feed import Feed
from runner.data.images import Decoded, ImageSet
from runner.data.open import open_data
from runner.errors import RequestError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
BYTES[0, 0, 0] = 0, 255, 7
LABELS = np.array([0, 1, 2, 0, 1, 2])
CLASSES = ("ant", "bee", "cow")
FIRST = np.eye(3)[LABELS]


class Column:
    """What a table's column is to numpy."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


def source(images=BYTES, labels=LABELS, *, rows=None, names=None, classes=CLASSES, **more):
    rows = np.arange(len(images)) if rows is None else rows
    train = ImageSet(images=images, labels=labels, rows=rows, names=names)
    return (
        Decoded(train=train, val=None, test=None, classes=classes, fingerprint="0" * 64)
        if not more
        else replace(Decoded(train=train, val=None, test=None, classes=classes, fingerprint="0" * 64), **more)
    )


def kept(*args, **keys):
    return contract.keep_contract(source(*args, **keys), target="mine.source")


def said(*args, **keys):
    with pytest.raises(RequestError) as error:
        kept(*args, **keys)
    line = str(error.value)
    assert "\n" not in line
    assert " from mine.source, expected " in line
    return line


FLOATS = (BYTES / 255).astype(np.float32)


@pytest.mark.parametrize(
    "images",
    [
        BYTES,
        BYTES.astype(np.int64),
        BYTES.astype(np.uint64),
        BYTES.astype(">u2"),
        BYTES.astype(np.float32),
        FLOATS,
        FLOATS.astype(np.float64),
        FLOATS.astype(np.float16),
        np.ma.masked_array(BYTES, mask=False),
        BYTES[:, ::-1][:, ::-1],
        torch.from_numpy(BYTES).permute(0, 3, 1, 2),
        torch.from_numpy(FLOATS).permute(0, 3, 1, 2),
        torch.from_numpy(FLOATS).permute(0, 3, 1, 2).clone().requires_grad_(),
        tv_tensors.Image(torch.from_numpy(BYTES).permute(0, 3, 1, 2)),
    ],
    ids=lambda images: f"{type(images).__name__}-{images.dtype}",
)
def test_images_of_any_type_become_the_same_bytes(images):
    found = kept(images)
    assert found.train.images.dtype == np.uint8
    assert np.array_equal(found.train.images, BYTES)
    assert found.notes == ()


def test_floats_a_little_above_one_are_of_no_plain_range():
    with pytest.raises(RequestError, match=r"train\.images of float32 from 0.* to 1\.02, which may be of either range"):
        kept(np.linspace(0, 1.02, 96, dtype=np.float32).reshape(6, 4, 4))


def test_sparse_tensors_are_made_dense():
    sparse = torch.from_numpy(FLOATS).permute(0, 3, 1, 2).to_sparse()
    assert np.array_equal(kept(sparse).train.images, BYTES)


def test_what_is_right_already_is_not_copied():
    assert kept().train.images is BYTES
    val = ImageSet(images=FLOATS, labels=LABELS, rows=np.arange(6), names=None)
    found = kept(FLOATS, val=val)
    assert found.val.images is found.train.images


def mine(config, *, kind):
    """Digits of two sorts, as floats from 0 to 1 or as bytes."""
    images = np.tile(BYTES, (5, 1, 1, 1))
    floats = (images / 255).astype(np.float32)
    return source(floats if kind == "floats" else images, np.tile(LABELS, 5))


def batch_of(kind):
    data = open_data(DataConfig(target=f"{__name__}.mine", options={"kind": kind}, val_fraction=0, test_fraction=0))
    feed = Feed(data.train, data, device=torch.device("cpu"), dtype=torch.float32, channels_last=False, augment=None)
    return feed.batch(torch.arange(6), None)[0]


def test_floats_are_not_divided_by_255_twice(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", __name__)
    right = batch_of("bytes")
    assert torch.equal(batch_of("floats"), right)
    # without the contract they are, which leaves all but nothing of the picture
    monkeypatch.setattr("runner.data.open.keep_contract", lambda decoded, *, target: decoded)
    assert batch_of("floats")[:, 0].std() < right[:, 0].std() / 100


def test_floats_that_never_were_bytes_are_rounded_and_it_is_said():
    floats = RNG.random((6, 4, 4, 1)).astype(np.float32)
    found = kept(floats)
    assert np.abs(found.train.images / 255 - floats).max() <= 0.5 / 255 + 1e-7
    assert found.notes == ("train images of float32 are rounded to 8 bits",)


def test_whole_numbers_that_end_at_one_are_said_to_be_nearly_black():
    for images in (np.ones((6, 4, 4), dtype=np.uint8), np.ones((6, 4, 4), dtype=np.int64)):
        (note,) = kept(images).notes
        assert note.startswith("train images are whole numbers that end at 1 of 255, so nearly black")
    for kind in (np.uint8, np.int16, np.float64):  # the digits of scikit-learn
        (note,) = kept(np.arange(96, dtype=kind).reshape(6, 4, 4) % 17).notes
        assert "end at 16 of 255, so nearly black" in note
    assert kept(np.ones((6, 4, 4), dtype=bool)).train.images.max() == 255
    assert kept(np.zeros((6, 4, 4), dtype=np.uint8)).notes == ()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (BYTES / 127.5 - 1, "train.images of float64 from -1 to 1 from"),
        (BYTES.astype(np.uint16) * 257, "train.images of uint16 from 0 to 65535 from"),
        (BYTES.astype(np.int16) - 1, "train.images of int16 from -1 to 254 from"),
        (np.where(BYTES == 7, np.nan, FLOATS), "that are not finite"),
        (np.where(BYTES == 7, np.inf, FLOATS), "that are not finite"),
        (BYTES.astype(complex), "of the type complex128"),
        (BYTES.astype(str), "of the type <U"),
        (np.ma.masked_less(BYTES, 3), "with masked pixels"),
        (np.moveaxis(BYTES, -1, 1), "of the shape [6, 3, 4, 4]; channels come last here"),
        (torch.from_numpy(BYTES), "of the shape [6, 4, 4, 3]; channels come first here"),
        (BYTES[0, 0], "of the shape [4, 3] from"),
        ([BYTES[0]], "train.images of the type list"),
        (None, "train.images of the type NoneType"),
    ],
)
def test_images_that_can_be_read_in_no_one_way_are_refused(images, words):
    line = said(images, rows=np.arange(6))
    assert line.startswith("data._target_: got train.images")
    assert words in line
    assert "floats from 0 to 1" in line


def test_splits_of_two_ranges_are_refused():
    val = ImageSet(images=BYTES.astype(np.float32), labels=LABELS, rows=np.arange(6), names=None)
    assert "images that do not agree: train ends at 1, val ends at 255" in said(FLOATS, val=val)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.astype(np.uint64),
        LABELS.astype(np.int8),
        LABELS.astype(np.float32),
        LABELS[:, None],
        LABELS.tolist(),
        FIRST,
        FIRST.astype(bool),
        np.array(CLASSES)[LABELS],
        np.array(CLASSES, dtype="S")[LABELS],
        np.array(CLASSES, dtype=object)[LABELS],
        np.array(LABELS.tolist(), dtype=object),
        [CLASSES[i] for i in LABELS],
        [torch.tensor(i) for i in LABELS],
        torch.from_numpy(LABELS),
        torch.from_numpy(LABELS).float()[:, None],
        torch.from_numpy(FIRST),
        np.ma.masked_array(LABELS, mask=False),
        Column(LABELS),
        Column(np.array(CLASSES, dtype=object)[LABELS]),
    ],
    ids=lambda labels: f"{type(labels).__name__}-{getattr(labels, 'dtype', '')}-{getattr(labels, 'shape', '')}",
)
def test_labels_of_any_form_become_the_same_numbers(labels):
    found = kept(labels=labels).train.labels
    assert type(found) is np.ndarray
    assert found.dtype == np.int64
    assert found.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.where(LABELS == 2, 3, LABELS), "the label 3 at example 2 of train"),
        (np.where(LABELS == 2, -1, LABELS), "the label -1 at example 2 of train"),
        (np.where(LABELS == 2, 2**63 + 5, LABELS.astype(np.uint64)), f"the label {2**63 + 5} at example 2"),
        (np.where(LABELS == 2, 0.5, LABELS), "the label 0.5 at example 2"),
        (np.where(LABELS == 2, np.nan, LABELS), "the label nan at example 2"),
        (np.ma.masked_equal(LABELS, 1), "a masked label at example 1 of train"),
        (["ant", "bee", "cwo", "ant", "bee", "cow"], "the label 'cwo' at example 2 of train"),
        (np.full((6, 3), 1 / 3), "no single 1 among zeros in the label of example 0"),
        (np.zeros((6, 3)), "no single 1 among zeros"),
        (np.zeros((6, 2)), "train.labels of the shape [6, 2] for 3 classes"),
        (np.array([None] * 6), "train.labels of the type object, [6]"),
        ([[0], [1, 2]], "train.labels of the type list"),
        (LABELS[:5], "5 labels and 6 rows in train"),
        (3, "train.labels of the type int"),
        (LABELS.astype("datetime64[s]"), "train.labels of the type datetime64[s]"),
    ],
)
def test_labels_that_mean_no_class_are_refused(labels, words):
    assert words in said(labels=labels)


def test_a_misspelt_label_gets_its_nearest_class():
    assert "; did you mean cow?" in said(labels=["ant", "bee", "coww", "ant", "bee", "cow"])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rows": np.arange(1, 7)}, "the row 6 in train of 6 images"),
        ({"rows": np.arange(6) - 1}, "the row -1 in train of 6 images"),
        ({"rows": np.arange(6) / 2}, "train.rows of the type float64"),
        ({"names": ("a.png",)}, "1 names and 6 rows in train"),
        ({"classes": "abc"}, "classes of the type str"),
        ({"classes": ("ant", "bee", "ant")}, "the class ant twice"),
        ({"classes": ("ant",)}, "1 class from"),
        ({"fingerprint": ""}, "the fingerprint ''"),
        ({"train": None}, "train of the type NoneType"),
        ({"val": BYTES}, "val of the type ndarray"),
        ({"labels": [], "rows": []}, "no training examples"),
    ],
)
def test_the_rest_of_the_contract(keys, words):
    assert words in said(**keys)
    assert kept(rows=LABELS.astype(np.uint8).tolist()).train.rows.tolist() == LABELS.tolist()


def test_a_label_beyond_the_classes_would_end_in_the_words_of_a_kernel():
    with pytest.raises(IndexError, match="out of bounds"):
        torch.nn.functional.cross_entropy(torch.zeros(6, 3), torch.from_numpy(np.where(LABELS == 2, 3, LABELS)))
