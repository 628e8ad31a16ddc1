"""What the fixed front ends compute, and that they stay fixed, private and in full precision."""

import math

import pytest
import torch

from runner.errors import RequestError
from runner.models.fixed_features import unit
from runner.models.oriented_gradients import FourierFeatures, OrientedGradients, linear_hog, mlp_hog
from runner.models.scattering import scatter_cnn, scatter_linear

OPTIONS = {"orientations": 8, "cells": 2, "sharpness": 2.0, "pixel_share": 0.25}


def front(**changes):
    return OrientedGradients(**({"in_channels": 1, "image_size": 8, **OPTIONS} | changes)).double()


def random_images(count, channels=1, size=8):
    return torch.randn(count, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_a_ramp_has_edges_in_its_own_direction():
    ramp = torch.arange(8, dtype=torch.float64).expand(1, 1, 8, 8)
    right, down = (front()(image)[0, :32].view(8, 4).mean(1) for image in (ramp, ramp.transpose(2, 3)))
    # directions go round in eighths, from right over down
    assert right.argmax() == 0
    assert down.argmax() == 2
    torch.testing.assert_close(down.roll(-2), right)
    # by hand: a response of cos^2 towards 0 and +-45 degrees, none elsewhere, then a root, a norm, the mean off
    raw = torch.tensor([1, math.cos(math.pi / 4), 0, 0, 0, 0, 0, math.cos(math.pi / 4)], dtype=torch.float64)
    expected = raw / raw.norm()
    expected = math.sqrt(0.75) * (expected - expected.mean()) / 2
    torch.testing.assert_close(right, expected, rtol=1e-5, atol=1e-6)


def test_pixels_have_their_share_of_the_norm():
    features = front()(random_images(5))
    torch.testing.assert_close(features[:, 32:].norm(dim=1), torch.full((5,), 0.5, dtype=torch.float64))
    assert (features.norm(dim=1) <= 1).all()
    torch.testing.assert_close(front()(3 * random_images(5)), features, rtol=1e-6, atol=1e-8)


def test_images_without_content_have_finite_features_and_gradients():
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    features = OrientedGradients(in_channels=3, image_size=8, **OPTIONS)(image)
    features.sum().backward()
    assert features.isfinite().all()
    assert image.grad.isfinite().all()
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_fourier_features_approach_the_gaussian_kernel():
    points = unit(random_images(6).flatten(1))
    features = FourierFeatures(64, 20_000, 1.5).double()(points)
    kernel = torch.exp(-((1.5 * torch.cdist(points, points)) ** 2) / 2)
    torch.testing.assert_close(features @ features.T, kernel, rtol=0, atol=0.03)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_fourier_directions_are_public_and_saved():
    torch.manual_seed(1)
    one = linear_hog(in_channels=1, num_classes=3, image_size=8, fourier_features=32)
    torch.manual_seed(2)
    other = linear_hog(in_channels=1, num_classes=3, image_size=8, fourier_features=32)
    assert torch.equal(one.state_dict()["1.directions"], other.state_dict()["1.directions"])
    assert {name for name, _ in one.named_parameters()} == {"2.weight"}


FACTORIES = {
    "linear_hog": lambda **shape: linear_hog(**shape, fourier_features=64),
    "mlp_hog": mlp_hog,
    "scatter_linear": scatter_linear,
    "scatter_cnn": scatter_cnn,
}


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("mode", ["functional", "hooks"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_per_example_are_those_of_each_example_alone(name, mode, channels):
    from runner.privacy.independence.mixing_check import check_examples_independent

    torch.manual_seed(0)
    model = FACTORIES[name](in_channels=channels, num_classes=4, image_size=12)
    check_examples_independent(model, grad_sample=mode, image_shape=(channels, 12, 12))


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_context_leaves_the_front_end_alone(name, dtype):
    from runner.training.precision.cpu_float16 import half_forward

    model = FACTORIES[name](in_channels=1, num_classes=4, image_size=12)
    images = random_images(3, size=12).float()
    expected = model[0](images)
    with half_forward() if dtype is torch.float16 else torch.autocast("cpu", dtype):
        found, logits = model[0](images), model(images)
    assert torch.equal(found, expected)
    # the control: what is trained does run in 16 bits
    assert logits.dtype is dtype


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"orientations": 1}, "model.orientations"),
        ({"cells": 9}, "model.cells"),
        ({"sharpness": 0.5}, "model.sharpness"),
        ({"pixel_share": 2}, "model.pixel_share"),
        ({"fourier_features": 3}, "model.fourier_features"),
        ({"fourier_features": 4, "bandwidth": 0}, "model.bandwidth"),
    ],
)
def test_what_cannot_be_is_refused(options, key):
    with pytest.raises(RequestError) as error:
        linear_hog(in_channels=1, num_classes=3, image_size=8, **options)
    assert error.value.key == key
    if key not in ("model.fourier_features", "model.bandwidth"):
        with pytest.raises(RequestError):
            mlp_hog(in_channels=1, num_classes=3, image_size=8, **options)
