"""Starting weights: files and the library's own, heads of other classes, and what is refused."""

import json
import socket

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from runner.config.schema import ModelConfig
from runner.errors import RequestError
from runner.models.build import build_network
from runner.models.surgery import adapt_channels

TORCHVISION = "runner.models.from_torchvision.build"


def build(
    name="resnet18",
    weights=None,
    *,
    channels=3,
    num_classes=5,
    image_size=32,
    norm="batch",
    seed=0,
    told=None,
    **options,
):
    torch.manual_seed(seed)
    config = ModelConfig(target=TORCHVISION, name=name, weights=weights, options=options)
    shape = {"channels": channels, "num_classes": num_classes, "image_size": image_size}
    return build_network(config, **shape, norm=norm, tell=(told if told is not None else []).append)


def small(weights=None, *, seed=0, widths=(4, 8), num_classes=5, **told):
    torch.manual_seed(seed)
    target = "runner.models.convolutional.small_cnn"
    config = ModelConfig(target=target, name="small_cnn", weights=weights, options={"widths": list(widths)})
    return build_network(config, channels=1, num_classes=num_classes, image_size=8, norm="batch", **told)


def saved(model, path):
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return str(path)


def test_a_file_restores_every_tensor(tmp_path):
    first = small(seed=1)
    second = small(saved(first, tmp_path / "w.safetensors"), seed=2)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_a_head_of_other_classes_is_replaced_and_said(tmp_path):
    first = small(seed=1, num_classes=9)
    path = saved(first, tmp_path / "w.safetensors")
    told = []
    second = small(path, seed=2, tell=told.append)
    fresh = small(seed=2)
    assert torch.equal(second[0].weight, first[0].weight)
    assert torch.equal(second[-1].weight, fresh[-1].weight)
    assert torch.equal(second[-1].bias, fresh[-1].bias)
    head = len(first) - 1
    (line,) = told
    assert line == (
        f"model.weights: {path} has 9 classes and the data 5: {head}.weight [9, 128] and {head}.bias [9] left out, the"
        " head starts from new weights"
    )


def test_a_run_says_so_on_the_console_and_in_its_record(train, tmp_path, capsys):
    torch.manual_seed(0)
    config = ModelConfig(target="runner.models.dense.linear", name="linear", options={})
    model = build_network(config, channels=1, num_classes=7, image_size=8, norm="batch")
    path = saved(model, tmp_path / "seven.safetensors")
    run = train("model=linear", f"model.weights={path}", "data.limit=20", "trainer.steps=1", "hardware=cpu")
    said = f"model.weights: {path} has 7 classes and the data 10:"
    assert f"warning: {said}" in capsys.readouterr().err
    assert any(note.startswith(said) for note in json.loads((run / "run.json").read_text())["notes"])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"0.weight": torch.zeros(4, 1, 3, 3)}, "it lacks 0.bias, 1.weight, 1.bias and"),
        ({**small().state_dict(), "extra": torch.zeros(1)}, "it has foreign extra"),
        ({**small().state_dict(), "0.weight": torch.zeros(4, 3, 3, 3)}, "other shapes at 0.weight"),
        (small(widths=(4, 16)).state_dict(), "other shapes at 4.weight"),
    ],
)
def test_other_differences_are_refused_by_name(tmp_path, state, words):
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(RequestError) as error:
        small(str(tmp_path / "w.safetensors"))
    assert error.value.key == "model.weights"
    assert words in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", None])
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content is None:
        saved(small(), path)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(RequestError, match="a readable safetensors file"):
        small(str(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="an existing safetensors file"):
        small(str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(RequestError) as error:
        small("default")
    assert error.value.nearest == "DEFAULT"


def test_batch_norm_weights_into_group_norm(tmp_path):
    first = build(seed=1)
    nn.init.normal_(first.bn1.weight)
    second = build(weights=saved(first, tmp_path / "w.safetensors"), norm="group")
    assert isinstance(second.bn1, nn.GroupNorm)
    assert torch.equal(second.bn1.weight, first.bn1.weight)
    third = build(weights=saved(second, tmp_path / "g.safetensors"), norm="group")
    assert torch.equal(third.conv1.weight, first.conv1.weight)


@pytest.fixture
def environment(tmp_path):
    """Sets environment variables for the length of a test; torch's hub folder is under ``tmp_path``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path))
        yield patch


@pytest.fixture
def hub(tmp_path, environment):
    """A torch hub folder that holds weights of mobilenet_v3_small, so that nothing is fetched; gives their model."""
    torch.manual_seed(3)
    model = torchvision.models.mobilenet_v3_small()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = torchvision.models.get_model_weights("mobilenet_v3_small")["DEFAULT"].url
    torch.save(model.state_dict(), folder / url.rpartition("/")[2])
    return model


def test_default_weights_from_the_hub_folder(hub):
    told = []
    model = build("mobilenet_v3_small", "DEFAULT", num_classes=5, channels=1, told=told)
    assert told == [
        "model.weights: DEFAULT of torchvision's mobilenet_v3_small has 1000 classes and the data 5: classifier.3 left"
        " out, the head starts from new weights"
    ]
    old, new = hub.features[0][0].weight, model.features[0][0].weight
    torch.testing.assert_close(new, old.sum(1, keepdim=True))
    assert model.features[0][0].stride == (2, 2), "the stem that the weights were trained with"
    assert torch.equal(model.features[1].block[0][0].weight, hub.features[1].block[0][0].weight)
    assert model.classifier[-1].weight.shape == (5, 1024)
    assert model.classifier[-1].bias.abs().max() > 0
    assert torch.equal(
        build("mobilenet_v3_small", "DEFAULT", num_classes=1000).classifier[-1].weight, hub.classifier[-1].weight
    )


def test_default_weights_do_not_fit_a_small_stem(hub):
    with pytest.raises(RequestError) as error:
        build("mobilenet_v3_small", "DEFAULT", small_stem=True)
    assert error.value.key == "model.small_stem"


def test_default_weights_in_a_broken_file(hub, tmp_path):
    next((tmp_path / "hub" / "checkpoints").iterdir()).write_bytes(b"cut off")
    with pytest.raises(RequestError, match=r"model\.weights: got DEFAULT \(cannot be fetched"):
        build("mobilenet_v3_small", "DEFAULT")


def test_default_weights_without_a_network(tmp_path, environment):
    # A port of this machine that nobody listens on stands for the unreachable network: refused at once.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        environment.setenv("https_proxy", f"http://127.0.0.1:{unused.getsockname()[1]}")
        environment.delenv("no_proxy", raising=False)
        environment.delenv("NO_PROXY", raising=False)
        with pytest.raises(RequestError) as error:
            build("mobilenet_v3_small", "DEFAULT")
    assert str(error.value).startswith("model.weights: got DEFAULT (cannot be fetched: ")
    assert f"a cached file in {tmp_path}" in str(error.value)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pretrained_filters_answer_to_grey_as_before(channels):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    grey = torch.randn(2, 1, 6, 6)
    before = model(grey.expand(2, 3, 6, 6))
    adapt_channels(model, channels, keep=True)
    torch.testing.assert_close(model(grey.expand(2, channels, 6, 6)), before)


def test_new_filters_keep_their_spread():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 7))
    nn.init.normal_(model[0].weight, std=0.3)
    adapt_channels(model, 1, keep=False)
    assert model[0].weight.shape == (64, 1, 7, 7)
    assert model[0].weight.std().item() == pytest.approx(0.3, rel=0.05)
