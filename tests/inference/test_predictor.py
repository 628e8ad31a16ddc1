"""``load_run``: any kind of image in, the same answer out."""

import numpy as np
import pytest
import torch
from PIL import Image

from runner import load_run
from runner.data.feed import Feed
from runner.errors import RequestError
from runner.inference.finished_run import open_run
from runner.inference.image_sources import open_split
from runner.inference.preprocessing import Normalise, to_pixels


@pytest.fixture(scope="module")
def model(digits_run):
    return load_run(digits_run, device="cpu")


@pytest.fixture(scope="module")
def pixels(digits_run):
    """The test images, uint8 [n, 8, 8, 1]."""
    images = open_split(open_run(digits_run), "test").images
    return images.images[images.rows]


def test_a_home_is_put_in_the_place_of_its_sign(digits_run, monkeypatch):
    monkeypatch.setenv("HOME", str(digits_run.parent))
    assert load_run(f"~/{digits_run.name}", device="cpu").classes


def test_it_answers_as_the_run_was_tested(model, digits_run, pixels):
    subject = open_split(open_run(digits_run), "test")
    found = model(pixels)
    right = (found.labels.numpy() == subject.images.labels).mean()
    assert right == pytest.approx(open_run(digits_run).test_accuracy)
    assert found.classes == tuple(model.classes[label] for label in found.labels)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(359))
    assert found.privacy is None


def test_every_kind_of_image_gives_the_same_answer(model, pixels, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(pixels[0, :, :, 0]).save(tmp_path / "digit.png")
    kinds = {
        "batch": pixels[:1],
        "array": pixels[0],
        "grey array": pixels[0, :, :, 0],
        "tensor": torch.from_numpy(pixels[0]).permute(2, 0, 1),
        "batch of tensors": torch.from_numpy(pixels[:1]).permute(0, 3, 1, 2),
        "picture": Image.fromarray(pixels[0, :, :, 0]),
        "path": tmp_path / "digit.png",
        "text": str(tmp_path / "digit.png"),
        "home": "~/digit.png",
        "colour": np.repeat(pixels[0], 3, axis=2),
    }
    wanted = model(pixels[:1]).probabilities
    for kind, image in kinds.items():
        assert torch.equal(model(image).probabilities, wanted), kind
    several = model(list(kinds.values()))
    assert len(set(several.classes)) == 1
    assert len(several.classes) == len(kinds)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((8, 8, 1), dtype=np.float32), "float32 of the shape [8, 8, 1]"),
        (np.zeros((8, 8, 4), dtype=np.uint8), "with C 1 or 3"),
        (torch.zeros(8, 8, dtype=torch.uint8), "of the shape [8, 8]"),
        ([], "images: got nothing"),
        (np.zeros((0, 8, 1), dtype=np.uint8), "of the shape [0, 8, 1], expected images of at least one pixel"),
        (np.zeros((8, 0), dtype=np.uint8), "of the shape [8, 0], expected images of at least one pixel"),
        (np.zeros((2, 0, 0, 3), dtype=np.uint8), "of the shape [2, 0, 0, 3], expected images of at least one pixel"),
        (torch.zeros(1, 0, 8, dtype=torch.uint8), "of the shape [1, 0, 8], expected images of at least one pixel"),
        (Image.new("L", (0, 5)), "a picture of 0 x 5, expected images of at least one pixel"),
        (np.zeros((0, 8, 8, 1), dtype=np.uint8), "images: got nothing"),
        (7, "images: got int, expected paths"),
        ("nowhere.png", "nowhere.png (No such file or directory)"),
    ],
)
def test_anything_else_is_refused(model, image, says):
    with pytest.raises(RequestError) as caught:
        model(image)
    assert says in str(caught.value)


def test_an_unreadable_file_is_named(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(RequestError, match=r"a\.png \(cannot be decoded"):
        model([tmp_path / "a.png"])


def test_a_private_model_says_so(private_run):
    found = load_run(private_run)(np.zeros((8, 8), dtype=np.uint8))
    assert found.privacy.epsilon > 0
    assert str(found.privacy).startswith("ε=")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalisation_has_the_bits_of_the_feed(digits_run, pixels, dtype):
    subject = open_split(open_run(digits_run), "test")
    device = torch.device("cpu")
    feed = Feed(subject.images, subject.data, device=device, dtype=dtype, channels_last=True, augment=None)
    wanted, _ = feed.batch(torch.arange(359), None)
    normalise = Normalise(subject.data.mean, subject.data.std, dtype)
    assert torch.equal(normalise(torch.from_numpy(pixels)), wanted)


def test_arrays_of_another_size_are_fitted_like_files():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    assert torch.equal(to_pixels(np.asarray(image), size=8, channels=1), to_pixels(image, size=8, channels=1))
