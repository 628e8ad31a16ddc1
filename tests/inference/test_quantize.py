"""Weights of 8 and 4 bits: what is rounded and how far, what the file holds, and what it costs in accuracy."""

import pytest
import torch
from torch import nn

pytest.importorskip("torchao")

from runner.inference.quantize import load_quantized, quantize, save_quantized


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 20, 3, groups=1), nn.ReLU(),
        nn.Conv2d(20, 20, 3, groups=20), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(80, 64), nn.ReLU(),
        nn.Linear(64, 7),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("bits", [8, 4])
def test_the_file_holds_the_model_that_was_rounded(tmp_path, bits):
    model, images = network(), torch.randn(5, 3, 12, 12)
    whole = model(images)
    done = quantize(model, bits)
    assert done.layers == ("3", "8", "10")
    assert done.kept == ("0", "5"), "few channels in a group"
    rounded = model(images)
    assert 0 < (rounded - whole).abs().max() < {8: 0.02, 4: 0.2}[bits]
    save_quantized(model, tmp_path / "weights")
    loaded = network()
    load_quantized(loaded, tmp_path / "weights")
    torch.testing.assert_close(loaded(images), rounded, rtol=0, atol=0)


@pytest.mark.parametrize(("bits", "ratio"), [(8, 0.27), (4, 0.17)])
def test_a_model_of_linear_layers_shrinks_to_its_bits(tmp_path, bits, ratio):
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    before = sum(parameter.numel() for parameter in model.parameters()) * 4
    quantize(model.eval(), bits)
    assert save_quantized(model, tmp_path / "weights") / before < ratio
    assert (tmp_path / "weights").stat().st_size / before < ratio


@pytest.mark.parametrize("bits", [8, 4])
def test_digits_are_told_as_well_with_small_weights(digits_run, ask, bits):
    whole, _ = ask(digits_run)
    small, folder = ask(digits_run, "inference=quantized", f"bits={bits}")
    assert abs(small["metrics"]["accuracy"] - whole["metrics"]["accuracy"]) <= 0.01
    assert small["metrics"]["loss"] != whole["metrics"]["loss"]
    assert small["model_bytes"] == (folder / f"model_int{bits}.safetensors").stat().st_size
    assert small["details"]["size_ratio"] < {8: 0.3, 4: 0.17}[bits]


def test_weights_of_another_model_are_noticed(tmp_path):
    model = network()
    quantize(model, 8)
    save_quantized(model, tmp_path / "weights")
    with pytest.raises(ValueError, match="weights of another model"):
        load_quantized(nn.Sequential(*network(), nn.Linear(7, 7)), tmp_path / "weights")
