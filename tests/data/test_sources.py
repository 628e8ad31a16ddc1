import gzip
import logging
import struct
import subprocess
import sys

import numpy as np
import pytest
from image_files import class_folders, put

from runner.config.schema import AugmentConfig, DataConfig
from runner.data.images import Decoded, ImageSet
from runner.data.open import open_data
from runner.errors import RequestError


def refusal(**keys):
    with pytest.raises(RequestError) as caught:
        open_data(DataConfig(**keys))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# digits

DIGITS = "runner.data.digits.load_digits"


def test_digits_are_scikit_learns():
    # In a process of its own: scikit-learn sets environment variables when it is imported.
    program = (
        "import numpy as np\n"
        "from sklearn.datasets import load_digits\n"
        "from runner.config.schema import DataConfig\n"
        "from runner.data.open import open_data\n"
        f"ours = open_data(DataConfig(target={DIGITS!r}, val_fraction=0, test_fraction=0)).train\n"
        "theirs = load_digits()\n"
        "assert np.array_equal(ours.images[..., 0], np.rint(theirs.images * 255 / 16))\n"
        "assert np.array_equal(ours.labels, theirs.target)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_constants_of_digits_are_near_the_truth_without_being_computed_from_it():
    images = open_data(DataConfig(target=DIGITS)).train.images / 255
    assert images.mean() == pytest.approx(0.3, abs=0.01)
    assert images.std() == pytest.approx(0.38, abs=0.01)


def test_opening_digits_imports_neither_scikit_learn_nor_torch():
    program = (
        "import sys\n"
        "from runner.config.schema import DataConfig\n"
        "from runner.data.open import open_data\n"
        f"data = open_data(DataConfig(target={DIGITS!r}))\n"
        "assert len(data.train) == 1294, len(data.train)\n"
        "assert not {'sklearn', 'torch', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_digits_at_another_size_and_in_colour():
    data = open_data(DataConfig(target=DIGITS, image_size=32, channels=3, mean=[0.3], std=[0.38]))
    assert data.train.images.shape == (1797, 32, 32, 3)
    assert data.mean == (0.3, 0.3, 0.3)
    assert data.fingerprint != open_data(DataConfig(target=DIGITS)).fingerprint


# synthetic

SYNTHETIC = "runner.data.synthetic.make_synthetic"


def synthetic(seed=0, **options):
    keys = {
        name: options.pop(name)
        for name in ("image_size", "channels", "val_fraction", "test_fraction")
        if name in options
    }
    return open_data(DataConfig(target=SYNTHETIC, split_seed=seed, options=options, **keys))


def test_synthetic_images_have_the_shape_that_was_asked_for():
    data = synthetic(num_train=70, num_val=20, num_test=30, num_classes=7, image_size=12, channels=1)
    assert [len(part) for part in (data.train, data.val, data.test)] == [70, 20, 30]
    assert data.train.images.shape == (70, 12, 12, 1)
    assert np.bincount(data.train.labels).tolist() == [10] * 7
    assert not np.array_equal(data.train.images[:20], data.val.images)


def test_synthetic_images_follow_from_the_split_seed():
    one, same, other = synthetic(), synthetic(), synthetic(seed=1)
    assert np.array_equal(one.train.images, same.train.images)
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    assert not np.array_equal(one.train.images, other.train.images)
    # Between two images of one class only the noise differs.
    noise, other_noise = (np.subtract(*data.train.images[[0, 10]].astype(int)) for data in (one, other))
    assert not np.array_equal(noise, other_noise)


def test_synthetic_classes_can_be_learnt_from_train_and_told_apart_in_test():
    data = synthetic(num_train=400, num_test=200, image_size=8, val_fraction=0)
    pixels = data.train.images.reshape(400, -1).astype(float)
    centres = np.stack([pixels[data.train.labels == k].mean(axis=0) for k in range(10)])
    seen = data.test.images.reshape(200, -1).astype(float)
    nearest = ((seen[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == data.test.labels).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 1}, "data.num_classes: got 1, expected a whole number, at least 2"),
        ({"num_train": 5}, "data.num_train: got 5, expected a whole number, at least 10"),
        ({"num_val": -1}, "data.num_val: got -1, expected a whole number, at least 0"),
        ({"num_test": 1.5}, "data.num_test: got 1.5, expected a whole number, at least 0"),
    ],
)
def test_synthetic_refusals(options, said):
    assert refusal(target=SYNTHETIC, options=options) == said


def test_a_misspelt_option_gets_its_nearest_name():
    assert refusal(target=SYNTHETIC, options={"num_trian": 50}) == (
        "data.num_trian: got 50, expected one of num_train, num_val, num_test, num_classes for data=; "
        "did you mean num_train?"
    )


# torchvision

TORCHVISION = "runner.data.torchvision_sets.load_torchvision"
SPLITS = {"train": {"train": True}, "test": {"train": False}}


def idx(values):
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A small MNIST in the published file format, without checksums that torchvision would ask for."""
    rng = np.random.default_rng(0)
    images, labels = {}, {}
    for split, stem, count in (("train", "train", 60), ("test", "t10k", 30)):
        images[split] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels[split] = np.arange(count) % 10
        put(tmp_path / "KMNIST" / "raw" / f"{stem}-images-idx3-ubyte", idx(images[split]))
        put(tmp_path / "KMNIST" / "raw" / f"{stem}-labels-idx1-ubyte", idx(labels[split]))
    return tmp_path, images, labels


def kmnist(root, **keys):
    options = {"dataset": "KMNIST", "files": ["KMNIST/raw"], "splits": SPLITS} | keys.pop("options", {})
    cache = str(root / "cache")
    return DataConfig(
        **{"target": TORCHVISION, "name": "kmnist", "root": str(root), "cache_dir": cache, "options": options} | keys
    )


# A set without a line of its own in the code: what its YAML says is enough.
def test_a_torchvision_set_is_read_as_its_options_say(mnist):
    root, images, labels = mnist
    data = open_data(kmnist(root, val_fraction=0))
    assert [len(data.train), data.val, len(data.test)] == [60, None, 30]
    assert data.channels == 1
    assert len(data.classes) == 10
    assert data.mean == (0.459,)
    for part, name in ((data.train, "train"), (data.test, "test")):
        assert np.array_equal(part.images[part.rows][..., 0], images[name])
        assert np.array_equal(part.labels, labels[name])


def test_a_torchvision_set_is_converted_once(mnist, caplog):
    caplog.set_level(logging.INFO)
    root, _, _ = mnist
    first = open_data(kmnist(root, image_size=32, channels=3))
    again = open_data(kmnist(root, image_size=32, channels=3))
    assert first.train.images.shape == (90, 32, 32, 3)
    assert first.fingerprint == again.fingerprint
    assert sum("decoding" in record.message for record in caplog.records) == 1
    cropped = open_data(kmnist(root, image_size=32, augment=AugmentConfig(random_resized_crop=True)))
    assert cropped.train.images.shape == (90, 37, 37, 1)
    assert cropped.test.images.shape == (90, 32, 32, 1)


def test_the_limit_of_pixels_holds_for_files_that_torchvision_opens(tmp_path):
    class_folders(tmp_path / "eurosat" / "2750", per_class=4)
    options = {"dataset": "EuroSAT", "files": ["eurosat"], "splits": {"train": {}}}
    assert len(open_data(kmnist(tmp_path, options=options, max_pixels=256)).classes) == 2
    with pytest.raises(RequestError, match=r"more than 255 pixels, the limit of data\.max_pixels"):
        open_data(kmnist(tmp_path, options=options, max_pixels=255))


def test_opening_a_converted_set_does_not_import_torchvision(mnist):
    root, _, _ = mnist
    config = kmnist(root)
    open_data(config)
    program = (
        "import sys\n"
        "from runner.config.schema import *\n"
        "from runner.data.open import open_data\n"
        f"open_data({config!r})\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_files_are_named_with_their_places(tmp_path):
    config = {"target": TORCHVISION, "root": str(tmp_path)}
    cifar = {"dataset": "CIFAR10", "files": ["cifar-10-batches-py"], "splits": SPLITS}
    assert refusal(**config, options=cifar) == (
        f"data.root: got {tmp_path} (no cifar-10-batches-py), expected the files of CIFAR10: "
        f"{tmp_path}/cifar-10-batches-py; data.download=true fetches them"
    )
    assert refusal(target=TORCHVISION, options=cifar).startswith("data.root: got null, expected the folder that holds")


def test_damaged_files_are_refused(tmp_path):
    put(tmp_path / "cifar-10-batches-py" / "data_batch_1", gzip.compress(b"x"))
    cifar = {"dataset": "CIFAR10", "files": ["cifar-10-batches-py"], "splits": SPLITS}
    said = refusal(target=TORCHVISION, root=str(tmp_path), cache_dir=str(tmp_path / "c"), options=cifar)
    assert said.startswith(f"data.root: got {tmp_path} (Dataset not found or corrupted")
    assert said.endswith("expected the files of CIFAR10, whole: cifar-10-batches-py")


def test_a_download_that_fails_is_a_refusal(tmp_path, monkeypatch):
    from torchvision.datasets import KMNIST

    # A port on which nobody listens: the network's own error, without a network.
    monkeypatch.setattr(KMNIST, "mirrors", ["http://127.0.0.1:9/"])
    options = {"dataset": "KMNIST", "files": ["KMNIST/raw"], "splits": SPLITS, "download": True}
    said = refusal(target=TORCHVISION, root=str(tmp_path), cache_dir=str(tmp_path / "c"), options=options)
    assert said.startswith(f"data.root: got {tmp_path} (")
    assert said.endswith("expected the files of KMNIST, whole: KMNIST/raw")


def test_an_unknown_torchvision_set_gets_its_nearest_name(tmp_path):
    put(tmp_path / "files" / "x", b"x")
    options = {"dataset": "CIFAR11", "files": ["files"], "splits": SPLITS}
    said = refusal(target=TORCHVISION, root=str(tmp_path), cache_dir=str(tmp_path / "c"), options=options)
    assert said.startswith("data.dataset: got CIFAR11, expected a class of torchvision.datasets; did you mean CIFAR1")


# Any source


def test_a_source_that_does_not_exist():
    expected = "expected the import path of a data source ("
    assert refusal(target="runner.data.digits.load_digit").startswith(
        f"data._target_: got runner.data.digits.load_digit, {expected}"
    )
    for target in ("nowhere.at_all", "digits", "builtins.repr"):
        assert refusal(target=target).startswith(f"data._target_: got {target}, expected an import path under runner")
    assert "which cannot be called" in refusal(target="runner.data.augment.COLUMNS")


def blank(config, *, shape):
    """A source of one's own, as a user would write it."""
    images = np.zeros((20, *shape), dtype=np.uint8)
    train = ImageSet(images=images, labels=np.arange(20) % 2, rows=np.arange(20), names=None)
    return Decoded(train=train, val=None, test=None, classes=("a", "b"), fingerprint="0" * 64)


def test_a_source_of_ones_own_must_give_square_grey_or_rgb_images(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", __name__)
    target = f"{__name__}.blank"
    assert open_data(DataConfig(target=target, options={"shape": [4, 4, 3]})).image_size == 4
    assert open_data(DataConfig(target=target, options={"shape": [4, 4, 5]})).channels == 5
    said = refusal(target=target, options={"shape": [4, 5, 3]})
    assert said.startswith(
        f"data._target_: got train.images of the shape [20, 4, 5, 3]; channels come last here from {target}"
    )
    assert refusal(target=target, channels=1, options={"shape": [4, 4, 3]}) == (
        f"data.channels: got 1, and {target} gives 3, expected null or 3, or a source that honours it"
    )
    assert refusal(target=target, image_size=8, options={"shape": [4, 4, 3]}) == (
        f"data.image_size: got 8, and {target} gives 4 x 4 pixels, expected null or 4, or a source that honours it"
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"mean": [0.5, 0.5]}, "data.mean: got 2 values, expected one value, or one for each of 1 channels"),
        ({"std": [0.1, 0.2, 0.3]}, "data.std: got 3 values, expected one value, or one for each of 1 channels"),
        ({"std": [0.0]}, "data.std: got [0.0], expected numbers greater than 0"),
        ({"mean": []}, "data.mean: got 0 values"),
        ({"channels": 0}, "data.channels: got 0, expected 1 (grey), 3 (RGB), the number of bands of TIFFs, or null"),
        ({"image_size": 0}, "data.image_size: got 0, expected a number of pixels"),
        ({"on_bad_file": "skipp"}, "data.on_bad_file: got skipp, expected refuse or skip; did you mean skip?"),
        ({"fold": 5}, "data.fold: got 5, expected a number from 0 to 4 (data.folds=5)"),
        ({"limit": 9}, "data.limit: got 9, expected at least 10, one example for each class"),
        ({"options": {"rooot": 1}}, "data.rooot: got 1, expected no such key for data="),
    ],
)
def test_refusals_that_every_source_shares(keys, said):
    assert refusal(target=DIGITS, **keys).startswith(said)


def test_what_a_source_tells_is_no_key_of_its_own():
    target = "runner.data.image_folder.load_image_folder"
    expected = "data.tell: got 1, expected one of splits for data="
    assert refusal(target=target, options={"tell": 1}) == expected


def test_limits_hold_for_every_split_and_change_the_fingerprint():
    full, limited = (open_data(DataConfig(target=DIGITS, limit=limit)) for limit in (None, 50))
    assert [len(part) for part in (limited.train, limited.val, limited.test)] == [50, 50, 50]
    assert np.bincount(limited.train.labels).tolist() == pytest.approx([5] * 10, abs=1)
    assert limited.fingerprint != full.fingerprint
    for part in ("train", "val", "test"):
        assert set(getattr(limited, part).rows) <= set(getattr(full, part).rows)


def test_splits_do_not_overlap_and_depend_on_their_seed_alone():
    one, other = (open_data(DataConfig(target=DIGITS, split_seed=seed)) for seed in (0, 1))
    rows = np.concatenate([one.train.rows, one.val.rows, one.test.rows])
    assert sorted(rows) == list(range(1797))
    assert not np.array_equal(one.test.rows, other.test.rows)
    assert one.fingerprint != other.fingerprint
    assert open_data(DataConfig(target=DIGITS, batch_size=7)).fingerprint == one.fingerprint
    assert open_data(DataConfig(target=DIGITS, val_fraction=0)).val is None
