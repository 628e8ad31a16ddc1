"""Layers that never change, computed once for each image: what is learned has the same bits."""

import json
import signal

import pytest
import torch

from runner.errors import RequestError
from runner.models.fixed_features import FixedFeatures
from runner.models.oriented_gradients import FourierFeatures, OrientedGradients
from runner.models.scattering import Scattering
from runner.training import feature_cache
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.feature_cache import front_to_keep
from runner.training.step import TrainStep

# 67 training images and a logical batch of 24 in micro-batches of 8: the last of an epoch has 19
RECIPE = ("data.limit=67", "model=scatter_linear", "trainer.epochs=2", "data.batch_size=8",
          "trainer.accumulation_steps=3", "optimizer.lr=0.1")  # fmt: skip
DP = (
    "trainer=dp",
    "privacy.noise_multiplier=2",
    "privacy.accountant=rdp",
    "privacy.unsafe_noise_seed=1",
    "privacy.grad_sample=ghost",
)


def learned(run_dir):
    figures = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    timed = ("samples_per_second", "seconds", "time")
    figures = [{key: value for key, value in line.items() if key not in timed} for line in figures]
    return figures, load_checkpoint(run_dir / "checkpoints" / "last").weights


def equal(one, other):
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in other[1])


@pytest.fixture
def computed(monkeypatch):
    """A list with the images of each call of the scattering that is part of an update, or of a check before them."""
    found = []
    features = Scattering.features

    def counted(self, images):
        if torch.is_grad_enabled():
            found.append(len(images))
        return features(self, images)

    monkeypatch.setattr(Scattering, "features", counted)
    return found


@pytest.mark.parametrize("recipe", [
    ("data.augment.flip=true", "precision=fp64"), (*DP, "precision=bf16"),
    (*DP, "data.augment.flip=true", "privacy.augmentation_multiplicity=2", "privacy.grad_sample=functional"),
], ids=["flip_in_float64", "dp_autocast", "dp_copies"])  # fmt: skip
def test_what_is_learned_has_the_same_bits(train, recipe, computed):
    kept = learned(train(*RECIPE, *recipe))
    with_cache = len(computed)
    computed.clear()
    assert equal(kept, learned(train(*RECIPE, *recipe, "features.cache=off")))
    assert with_cache < len(computed)


def test_a_shipped_private_experiment_learns_the_same_from_kept_vectors(train):
    """Features without height and width: the check of companions must not take them for images."""
    recipe = ("experiment=dp_digits", "data.limit=67", "trainer.epochs=2", "data.batch_size=8",
              "privacy.unsafe_noise_seed=1")  # fmt: skip
    assert equal(learned(train(*recipe)), learned(train(*recipe, "features.cache=off")))


def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(train, monkeypatch, tmp_path):
    whole = learned(train(*RECIPE))
    stop, folder = 3, tmp_path / "stopped"
    folder.mkdir()
    step = TrainStep.run

    def interrupted(self, number, **asked):
        if number == stop:
            signal.raise_signal(signal.SIGTERM)
        return step(self, number, **asked)

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "run", interrupted)
        train(*RECIPE, run_dir=folder, exit_code=75)
    assert json.loads((folder / "run.json").read_text())["steps"] == stop + 1
    # what was kept is not needed to go on
    train(*RECIPE, "features.cache=off", run_dir=folder)
    assert equal(learned(folder), whole)


def test_features_that_are_off_by_a_bit_change_what_is_learned(train, monkeypatch):
    """The control: the comparisons above would see it."""
    exact = learned(train(*RECIPE))
    features = feature_cache.features_of
    monkeypatch.setattr(
        feature_cache, "features_of", lambda front, x: torch.nextafter(features(front, x), x.new_ones(()))
    )
    assert not equal(learned(train(*RECIPE)), exact)


def test_a_later_run_reads_what_an_earlier_one_has_written(train, monkeypatch, tmp_path):
    monkeypatch.setattr(feature_cache, "SMALL_BYTES", 0)
    recipe = (*RECIPE, "data.cache=disk", f"data.cache_dir={tmp_path / 'cache'}")
    written = train(*recipe)
    entries = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(entries) == 3  # training, validation, test
    pieces = []
    compute = feature_cache.FeatureCache._compute
    monkeypatch.setattr(feature_cache.FeatureCache, "_compute", lambda *a: pieces.append(a) or compute(*a))
    read = train(*recipe)
    assert not pieces
    assert equal(learned(read), learned(written))
    said = json.loads((read / "run.json").read_text())["plan"]["performance"]["features_kept"]
    assert said.startswith("Scattering once for each image: 67 train in ")
    # another normalisation, and damage, are seen
    train(*recipe, "data.mean=[0.4]", "data.std=[0.3]")
    assert len(list((tmp_path / "cache").iterdir())) == 6
    pieces.clear()
    for file in (tmp_path / "cache").glob("*/features.npy"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    assert equal(learned(train(*recipe)), learned(written))
    assert len(pieces) == 3


def test_the_identity_counts_rounding_alone(train):
    def identity(*changes):
        run = json.loads((train(*RECIPE, "trainer.epochs=1", *changes) / "run.json").read_text())
        return run["plan"]["identity"]

    assert identity() == identity("features.cache=off") != identity("features.dtype=bfloat16")


class Centred(FixedFeatures):
    """What no front may be: the features of an image depend on the others."""

    def features(self, images):
        return (images - images.mean(0)).flatten(1)


def test_only_layers_that_give_an_image_the_same_bits_in_any_batch_are_kept():
    images = torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    front = OrientedGradients(in_channels=1, image_size=8, orientations=8, cells=4, sharpness=2.0, pixel_share=0.35)
    mixing = torch.nn.Sequential(Centred(), torch.nn.Linear(64, 2))
    assert front_to_keep(mixing, images)[0] == ()
    assert mixing[0].given is None
    # features of the shape that images have could not be told from images
    same = torch.nn.Sequential(front, FourierFeatures(front.width, front.width, 2.0), torch.nn.Linear(front.width, 2))
    assert front_to_keep(same, images) == ((front,), (front.width,))
    features = front(images)
    torch.testing.assert_close(same(features), same(images), rtol=0, atol=0)


def test_a_model_without_such_layers_cannot_round_features(train):
    with pytest.raises(RequestError, match=r"features.dtype: got bfloat16 with model=mlp, .* expected float32"):
        train("data.limit=67", "model=mlp", "features.dtype=bfloat16")
