"""What images a run sees where the configuration leaves it to the model: constants, interpolation and size."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from runner import load_run
from runner.data.decoding.decode import fit
from runner.errors import RequestError
from runner.execution.job import plan_run
from runner.inference.finished_run import open_run
from runner.inference.image_sources import open_own_data
from runner.models import input_spec
from runner.training import run_data
from runner.training.run_data import open_run_data, resolved_data_config

timm = pytest.importorskip("timm", reason="an extra that is not installed")

HALF = (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve photos of three sizes in two classes."""
    root = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for label in ("a", "b"):
        (root / label).mkdir()
        for number in range(6):
            shape = ((40, 60), (60, 40), (50, 50))[number % 3]
            Image.fromarray(draw.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(root / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights of timm's smallest transformer, in a file."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=2)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def on(photos, *more):
    return ["data=image_folder", f"data.root={photos}", "data.val_fraction=0", "data.test_fraction=0.2", *more]


def test_constants_interpolation_and_size_come_with_the_weights(photos, weights, configure):
    data = open_run_data(configure(*on(photos, "model=timm", "model.name=test_vit", f"model.weights={weights}")))
    assert (data.mean, data.std, data.interpolation, data.image_size) == (HALF, HALF, "bicubic", 160)
    (note,) = [note for note in data.notes if "model.weights" in note]
    assert "by timm for test_vit.r160_in1k: mean (0.500, 0.500, 0.500), std (0.500, 0.500, 0.500), bicubic, 160" in note
    # what the data themselves say: uniform noise, smoothed by the larger size
    assert "; 10 training images themselves: mean (0.50" in note or "mean (0.49" in note
    first = data.train.names[0]
    wanted = fit(Image.open(photos / first), size=160, channels=3, interpolation="bicubic")
    assert np.array_equal(data.train.pixels(np.array([0]))[0], wanted)


def test_what_is_typed_comes_first_and_the_difference_is_told(photos, weights, configure):
    own = ("data.mean=[0.1]", "data.std=[0.2]", "data.interpolation=nearest", "data.image_size=32")
    data = open_run_data(configure(*on(photos, "model=timm", "model.name=test_vit", f"model.weights={weights}", *own)))
    assert (data.mean, data.std, data.interpolation, data.image_size) == ((0.1,) * 3, (0.2,) * 3, "nearest", 32)


def test_constants_of_the_data_s_option_give_way_to_those_of_the_weights(weights, configure):
    model = ("model=timm", "model.name=test_vit", f"model.weights={weights}")
    data = open_run_data(configure("data=digits", *model))
    assert (data.mean, data.std, data.image_size, data.channels) == ((0.5,), (0.5,), 160, 1)
    typed = open_run_data(configure("data=digits", "data.mean=[0.3]", "data.std=[0.38]", *model))
    assert typed.mean == (0.3,)
    assert any("as typed, where model.weights" in note for note in typed.notes)


def test_constants_of_the_data_s_option_are_not_called_typed(weights, configure, monkeypatch):
    same = input_spec.InputSpec(size=None, mean=(0.3,), std=(0.38,), interpolation=None, stated_by="a run on digits")
    monkeypatch.setattr(run_data, "input_of_weights", lambda model: same)
    (note,) = open_run_data(configure("data=digits", "model=linear", f"model.weights={weights}")).notes
    assert "takes them, by a run on digits: mean (0.300)" in note


def test_without_weights_nothing_changes(configure):
    for keys in (["data=digits"], ["data=digits", "model=timm", "model.name=test_vit", "data.image_size=32"]):
        data = open_run_data(configure(*keys))
        assert (data.mean, data.interpolation, data.notes) == ((0.3,), "bilinear", ())
    config = configure("data=digits")
    recipe = plan_run(config).identity_fields()
    assert "interpolation" not in recipe["data"]
    assert "size_of_model" not in recipe["data"]


@pytest.mark.parametrize(
    ("target", "name", "wanted"),
    [
        (input_spec.TIMM, "vit_base_patch16_clip_224.openai", (224, CLIP, "bicubic")),
        (input_spec.TIMM, "resnet18.tv_in1k", (224, (0.485, 0.456, 0.406), "bilinear")),
        (input_spec.TIMM, "vit_tiny_patch16_384", (384, HALF, "bicubic")),
        (input_spec.TORCHVISION, "inception_v3", (299, (0.485, 0.456, 0.406), "bilinear")),
        (input_spec.TORCHVISION, "swin_t", (224, (0.485, 0.456, 0.406), "bicubic")),
    ],
)
def test_what_the_libraries_state(target, name, wanted, configure):
    model = configure().model
    model.target, model.name, model.weights = target, name, "DEFAULT"
    found = input_spec.input_of_weights(model)
    assert (found.size, found.mean, found.interpolation) == wanted


def test_every_constant_of_timm_is_used(configure):
    model = configure().model
    model.target, model.weights = input_spec.TIMM, "DEFAULT"
    other = 0
    for name in timm.list_pretrained():
        model.name = name
        stated, found = timm.get_pretrained_cfg(name), input_spec.input_of_weights(model)
        assert (found.mean, found.std, found.size) == (stated.mean, stated.std, stated.input_size[-1]), name
        assert found.interpolation == stated.interpolation, name
        other += stated.mean != (0.485, 0.456, 0.406)
    assert other > 400


def test_weights_of_a_run_bring_what_that_run_saw(photos, train, configure):
    first = train(
        *on(photos, "model=small_cnn", "trainer.steps=1", "data.image_size=16", "data.mean=[0.2]", "data.std=[0.3]")
    )
    file = first / "checkpoints" / "last" / "model.safetensors"
    data = open_run_data(configure(*on(photos, "model=small_cnn", f"model.weights={file}")))
    assert (data.mean, data.std, data.image_size) == ((0.2,) * 3, (0.3,) * 3, 16)
    copied = file.resolve().parent.parent / "elsewhere.safetensors"
    copied.write_bytes(file.read_bytes())
    data = open_run_data(configure(*on(photos, "model=small_cnn", f"model.weights={copied}", "data.image_size=16")))
    (note,) = [note for note in data.notes if "model.weights" in note]
    assert note.startswith(f"nobody states what model.weights={copied} was trained with: images are normalised by mean")


def test_what_lies_beside_the_weights_counts(tmp_path, photos, weights, configure):
    (tmp_path / "model.safetensors").write_bytes(weights.read_bytes())
    stated = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "input_size": [3, 64, 64]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": stated}))
    keys = on(photos, "model=timm", "model.name=test_vit", f"model.weights={tmp_path}/model.safetensors")
    data = open_run_data(configure(*keys))
    assert (data.mean, data.std, data.image_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 64)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RequestError, match=r"config\.json beside it \(no JSON"):
        open_run_data(configure(*keys))


def test_of_private_images_no_figure_is_told(photos, weights, configure):
    keys = on(photos, "trainer=dp", "model=timm", "model.name=test_vit", f"model.weights={weights}")
    notes = open_run_data(configure(*keys)).notes
    assert any("mean (0.500, 0.500, 0.500)" in note for note in notes)
    assert not any("themselves" in note for note in notes)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (["model=resnet18"], 224),
        (["model=torchvision", "model.name=inception_v3"], 299),
        (["model=timm", "model.name=test_vit"], 160),
    ],
)
def test_photos_of_several_sizes_take_that_of_the_model(photos, configure, model, size):
    config = configure(*on(photos, *model))
    data = open_run_data(config)
    assert data.image_size == size
    assert any(
        note.startswith(f"data.image_size is null and the images have no size in common: {size} pixels, as")
        for note in data.notes
    )
    assert data.fingerprint == open_run_data(configure(*on(photos, *model, f"data.image_size={size}"))).fingerprint


def test_a_network_without_a_size_of_its_own_asks_for_one(photos, configure):
    with pytest.raises(RequestError, match=r"data.image_size: got null with"):
        open_run_data(configure(*on(photos, "model=small_cnn")))


def test_a_run_keeps_what_came_with_its_weights(photos, weights, train, configure, tmp_path):
    (tmp_path / "gone").mkdir()
    file = tmp_path / "gone" / "model.safetensors"
    file.write_bytes(weights.read_bytes())
    keys = on(photos, "model=timm", "model.name=test_vit", f"model.weights={file}", "trainer.steps=1")
    folder = train(*keys)
    file.unlink()  # nothing asks for it again
    planned = open_run(folder_with_config(folder, keys, configure), "last").plan.semantic.data
    assert (planned.mean, planned.interpolation, planned.image_size) == (HALF, "bicubic", 160)
    run = open_run(folder, "last")
    own = open_own_data(run)
    assert own.fingerprint == planned.fingerprint
    assert resolved_data_config(run.config, planned).mean == list(HALF)
    predict = load_run(folder, checkpoint="last", device="cpu")
    path = photos / own.train.names[0]
    pixels = torch.from_numpy(own.train.pixels(np.array([0])))
    assert torch.equal(predict(path).probabilities, predict.probabilities(pixels))
    # with the usual interpolation it would not have seen what it was trained on
    predict._interpolation = "bilinear"
    assert not torch.equal(predict(path).probabilities, predict.probabilities(pixels))


def folder_with_config(folder, keys, configure):
    from omegaconf import OmegaConf

    from runner.config.compose import Composer

    composed = Composer(caller=folder).compose(["tracker=none", *keys])
    (folder / ".hydra").mkdir()
    own = [str(key) for key in composed if key != "hydra"]
    OmegaConf.save(OmegaConf.masked_copy(composed, own), folder / ".hydra" / "config.yaml")
    return folder
