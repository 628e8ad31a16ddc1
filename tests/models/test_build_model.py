"""Every option of conf/model builds, fits itself to the data, and trains; wrong requests get one line."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from runner.config.schema import ModelConfig
from runner.errors import RequestError
from runner.models.build import build_network
from runner.models.surgery import patch_size_for

CONF = Path(__file__).parents[2] / "conf" / "model"
SHAPE = {"channels": 1, "num_classes": 7, "image_size": 8, "norm": "batch"}
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))


def config(option, **changes):
    """``ModelConfig`` of the YAML file of ``option``, as the config stage makes it."""
    values = {**yaml.safe_load((CONF / f"{option}.yaml").read_text()), **changes}
    common = {key: values.pop(key) for key in ("name", "weights", "norm") if key in values}
    return ModelConfig(target=values.pop("_target_"), options=values, **common)


def build(option, *, channels=1, num_classes=7, image_size=8, norm="batch", **changes):
    torch.manual_seed(0)
    return build_network(
        config(option, **changes), channels=channels, num_classes=num_classes, image_size=image_size, norm=norm
    )


def trains(model, channels, image_size, num_classes):
    torch.manual_seed(1)
    logits = model.train()(torch.randn(2, channels, image_size, image_size))
    assert logits.shape == (2, num_classes)
    F.cross_entropy(logits, torch.tensor([0, num_classes - 1])).backward()
    gradients = [p.grad for p in model.parameters()]
    return all(g is not None and g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)


def first_convolution(model):
    return next(m for m in model.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains(option):
    if option == "timm" and find_spec("timm") is None:
        pytest.skip("timm is an extra that is not installed")
    # ConvNeXt halves the image five times; the others take the 8 pixels of the digits.
    size = 32 if option == "torchvision" else 8
    assert trains(build(option, image_size=size), 1, size, 7)


@pytest.mark.parametrize("option", ["small_cnn", "tanh_cnn", "linear", "mlp", "resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize(("channels", "image_size"), [(1, 28), (3, 32), (2, 64), (3, 9)])
def test_channels_and_sizes(option, channels, image_size):
    assert trains(build(option, channels=channels, image_size=image_size, num_classes=3), channels, image_size, 3)


@pytest.mark.parametrize("option", ["resnet18", "small_cnn", "mobilenet_v3_small"])
def test_weights_come_from_the_seed(option):
    a, b = build(option), build(option)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    torch.manual_seed(1)
    other = build_network(config(option), channels=1, num_classes=7, image_size=8, norm="batch")
    assert not all(torch.equal(x, y) for x, y in zip(a.parameters(), other.parameters(), strict=True))


def test_small_stem_follows_the_image_size():
    small, large = build("resnet18", image_size=32), build("resnet18", image_size=64)
    assert (small.conv1.kernel_size, small.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(small.maxpool, nn.Identity)
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(large.maxpool, nn.MaxPool2d)


def test_small_stem_can_be_chosen():
    assert build("resnet18", image_size=32, small_stem=False).conv1.kernel_size == (7, 7)
    assert build("resnet18", image_size=64, small_stem=True).conv1.kernel_size == (3, 3)


@pytest.mark.parametrize("option", ["mobilenet_v3_small", "efficientnet_b0"])
def test_small_stem_of_mobile_networks_is_a_stride(option):
    assert first_convolution(build(option, image_size=32)).stride == (1, 1)
    assert first_convolution(build(option, image_size=33)).stride == (2, 2)


@pytest.mark.parametrize(("image_size", "patch"), [(8, 1), (28, 4), (32, 4), (64, 8), (96, 12), (224, 16)])
def test_patches_fit_the_image(image_size, patch):
    assert patch_size_for(image_size) == patch


def test_any_other_torchvision_model_by_name():
    assert trains(build("torchvision", name="shufflenet_v2_x0_5", image_size=32), 1, 32, 7)
    assert trains(build("torchvision", name="squeezenet1_1", image_size=32), 1, 32, 7)


def test_options_reach_the_library():
    model = build("resnet18", zero_init_residual=True)
    assert not model.layer1[0].bn2.weight.any()
    assert build("resnet18").layer1[0].bn2.weight.all()


def test_mlp_widths():
    assert [m.out_features for m in build("mlp", hidden=[5, 6]) if isinstance(m, nn.Linear)] == [5, 6, 7]


def test_tanh_cnn_has_the_published_sizes():
    def parameters(**shape):
        return sum(p.numel() for p in build("tanh_cnn", num_classes=10, **shape).parameters())

    assert parameters(channels=1, image_size=28) == 26_010
    assert parameters(channels=3, image_size=32) == 550_570


@pytest.mark.parametrize(
    ("option", "changes", "key", "nearest"),
    [
        ("mlp", {"hiden": [3]}, "model.hiden", "hidden"),
        ("mlp", {"hidden": []}, "model.hidden", None),
        ("linear", {"hidden": [3]}, "model.hidden", None),
        ("small_cnn", {"widths": [0]}, "model.widths", None),
        ("small_cnn", {"widths": [4] * 5}, "data.image_size", None),
        ("resnet18", {"name": "resnet81"}, "model.name", "resnet18"),
        ("resnet18", {"small_steam": True}, "model.small_steam", "small_stem"),
        ("resnet18", {"patch_size": 4}, "model.patch_size", None),
        ("torchvision", {"name": "alexnet"}, "data.image_size", None),
        ("torchvision", {"name": "convnext_tiny", "small_stem": True}, "model.small_stem", None),
        ("vit_b_16", {"patch_size": 3}, "data.image_size", None),
        ("linear", {"_target_": "runner.models.dense.lineer"}, "model._target_", None),
        ("linear", {"_target_": "runner.models.nowhere.linear"}, "model._target_", None),
        ("linear", {"_target_": "torch.nn.Linear"}, "model._target_", None),
        ("linear", {"weights": "DEFAULT"}, "model.weights", None),
    ],
)
def test_refuses(option, changes, key, nearest):
    with pytest.raises(RequestError) as error:
        build(option, **changes)
    assert error.value.key == key
    assert error.value.nearest == nearest
    assert "\n" not in str(error.value)


def test_an_option_that_a_factory_needs_is_asked_for(tmp_path, monkeypatch):
    factory = "def wide(*, in_channels, num_classes, image_size, width):\n    raise AssertionError\n"
    (tmp_path / "wide_models.py").write_text(factory)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "wide_models")
    with pytest.raises(RequestError, match=r"model\.width: got nothing, expected a value"):
        build_network(ModelConfig(target="wide_models.wide"), **SHAPE)


def test_a_class_that_hands_its_arguments_on_takes_those_of_its_base(tmp_path, monkeypatch):
    source = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_channels, num_classes, image_size, width=4):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.Linear(width, num_classes))

class Own(Net):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
"""
    (tmp_path / "handing_on.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "handing_on")
    model = build_network(ModelConfig(target="handing_on.Own", options={"width": 3}), **SHAPE)
    assert model[1].out_features == 3


def test_an_argument_of_the_chosen_option_that_the_users_factory_does_not_take(tmp_path, monkeypatch):
    (tmp_path / "plain_nets.py").write_text("def net(*, in_channels, num_classes, image_size, drop=0.1): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "plain_nets")
    told = r"model\.bias: got true, expected one of drop .* if the chosen option sets it: .*/model/NAME\.yaml"
    with pytest.raises(RequestError, match=told):
        build_network(ModelConfig(target="plain_nets.net", options={"bias": True}), **SHAPE)


OWN_NETWORKS = """
from torch import nn


class Centred(nn.Flatten):
    def forward(self, images):
        return super().forward(images - images.mean(0))


def network(*, in_channels, num_classes, image_size, kind):
    first = {"centred": Centred, "batch": lambda: nn.Sequential(nn.BatchNorm2d(in_channels), nn.Flatten())}
    last = [nn.Softmax(1)] if kind == "softmax" else []
    features = in_channels * image_size**2
    return nn.Sequential(first.get(kind, nn.Flatten)(), nn.Linear(features, num_classes), *last)
"""


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("plain", None),
        ("batch", None),
        ("softmax", "gives probabilities, as after a softmax, where logits are expected"),
        ("centred", "for an image depends on the other images of the batch"),
    ],
)
def test_what_a_network_of_the_users_most_likely_does_by_mistake_is_told(kind, told, tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN_NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "own_networks")
    heard = []
    build_network(ModelConfig(target="own_networks.network", options={"kind": kind}), **SHAPE, tell=heard.append)
    assert len(heard) == (told is not None)
    assert all(told in line for line in heard)


def test_no_patch_fits_a_prime():
    with pytest.raises(RequestError, match=r"data\.image_size: got 113"):
        patch_size_for(113)


@pytest.mark.parametrize("option", ["num_classes", "in_channels", "image_size"])
def test_what_the_data_says_is_no_option(option):
    with pytest.raises(RequestError) as error:
        build_network(ModelConfig(target="runner.models.dense.mlp", options={option: 3}), **SHAPE)
    assert error.value.key == f"model.{option}"


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_timm_that_is_not_installed():
    with pytest.raises(RequestError) as error:
        build("timm")
    assert "model: got timm (not installed)" in str(error.value)
    assert "pip install recipe-runner[timm]" in str(error.value)


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is an extra that is not installed")
def test_timm_models():
    assert trains(build("timm", name="resnet10t", image_size=32), 1, 32, 7)
    assert trains(build("timm", name="vit_tiny_patch16_224", image_size=32, patch_size=8), 1, 32, 7)
    with pytest.raises(RequestError) as error:
        build("timm", name="resnet10tt")
    assert (error.value.key, error.value.nearest) == ("model.name", "resnet10t")
    with pytest.raises(RequestError) as error:
        build("timm", name="resnet10t", image_size=32, drop_pth=1)
    assert error.value.key == "model.drop_pth"
