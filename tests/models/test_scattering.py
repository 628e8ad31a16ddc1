"""The scattering front end against convolutions written out in space, and what a scattering transform is known for."""

import pytest
import torch
import torch.nn.functional as F

from runner.errors import RequestError
from runner.models.scattering import Scattering, _low_pass, _wavelet, scatter_cnn, scatter_linear


def scattering(channels=1, size=16, groups=None, **changes):
    options = {"scales": 2, "directions": 8} | changes
    return Scattering(in_channels=channels, image_size=size, groups=groups, **options).double()


def images(count, channels=1, size=16):
    return torch.randn(count, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_coefficients_are_those_of_circular_convolutions_in_space():
    image = images(1)
    padded = F.pad(image, (4, 4, 4, 4), mode="reflect")[0, 0]
    size = padded.shape[0]

    def convolve(signal, spectrum):
        # by sums over all shifts, without a Fourier transform of the signal
        kernel = torch.fft.ifft2(spectrum.to(torch.complex128))
        total = torch.zeros_like(kernel)
        for down in range(size):
            for across in range(size):
                total += kernel[down, across] * torch.roll(signal, (down, across), (0, 1))
        return total

    low = _low_pass(size, 2)
    found = scattering()(image)[0]
    zeroth = convolve(padded, low).real[4:20:4, 4:20:4]
    torch.testing.assert_close(found[0], zeroth, rtol=1e-5, atol=1e-6)
    fine = convolve(padded, _wavelet(size, 0, 3, 8)).abs()
    torch.testing.assert_close(found[1 + 3], convolve(fine, low).real[4:20:4, 4:20:4], rtol=1e-5, atol=1e-6)
    # a coarse modulus is sampled every other pixel: equal up to what that loses
    coarse = convolve(padded, _wavelet(size, 1, 5, 8)).abs()
    expected = convolve(coarse, low).real[4:20:4, 4:20:4]
    assert (found[1 + 8 + 5] - expected).norm() < 0.05 * expected.norm()
    second = convolve(convolve(fine, _wavelet(size, 1, 5, 8)).abs(), low).real[4:20:4, 4:20:4]
    found_second = found[1 + 16 + 8 * 3 + 5]
    assert (found_second - second).norm() < 0.05 * second.norm()
    # the control: another direction is far off
    assert (found[1 + 16 + 8 * 3 + 1] - second).norm() > 0.1 * second.norm()


def test_wavelets_have_no_mean_and_prefer_their_direction():
    constant = scattering()(torch.ones(1, 1, 16, 16, dtype=torch.float64))[0]
    torch.testing.assert_close(constant[0], torch.ones(4, 4, dtype=torch.float64), rtol=1e-5, atol=0)
    assert constant[1:].abs().max() < 1e-5
    across = torch.cos(0.75 * torch.pi * torch.arange(16, dtype=torch.float64)).expand(1, 1, 16, 16)
    first = scattering()(across)[0, 1:9].mean(dim=(1, 2))
    # direction 0 is along a row, direction 4 along a column
    assert first.argmax() == 0
    assert first[4] < 0.1 * first[0]


def test_a_small_shift_changes_scattering_less_than_pixels():
    smooth = F.avg_pool2d(images(4, size=36), 5, stride=1)
    here, there = smooth[..., :32], smooth[..., :32].roll(1, 3)
    change = (scattering(size=32)(there) - scattering(size=32)(here)).norm() / scattering(size=32)(here).norm()
    assert change < 0.5 * (there - here).norm() / here.norm()


@pytest.mark.parametrize(("channels", "size", "shape"), [(3, 32, (243, 8)), (1, 28, (81, 7)), (1, 8, (81, 2)),
                                                         (3, 9, (243, 3))])  # fmt: skip
def test_shapes_and_groups(channels, size, shape):
    front = scattering(channels, size, groups=27)
    found = front(images(3, channels, size))
    assert found.shape == (3, shape[0], shape[1], shape[1])
    grouped = found.reshape(3, 27, -1)
    torch.testing.assert_close(grouped.mean(2), torch.zeros(3, 27, dtype=torch.float64), rtol=0, atol=1e-10)
    assert not list(front.parameters())
    assert not front.state_dict()


def test_the_sizes_of_tramer_and_boneh():
    linear = scatter_linear(in_channels=3, num_classes=10, image_size=32)
    assert sum(p.numel() for p in linear.parameters()) == (243 * 64 + 1) * 10
    network = scatter_cnn(in_channels=3, num_classes=10, image_size=32)
    assert [tuple(p.shape) for p in network.parameters() if p.dim() > 1] == [
        (64, 243, 3, 3), (64, 64, 3, 3), (10, 64 * 16),
    ]  # fmt: skip
    network = scatter_cnn(in_channels=1, num_classes=10, image_size=28)
    assert [tuple(p.shape) for p in network.parameters() if p.dim() > 1] == [
        (16, 81, 3, 3), (32, 16, 3, 3), (32, 32 * 16), (10, 32),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"scales": 0}, "model.scales"),
        ({"directions": 1.5}, "model.directions"),
        ({"groups": 2}, "model.groups"),
        ({"image_size": 4}, "data.image_size"),
    ],
)
def test_what_cannot_be_is_refused(options, key):
    with pytest.raises(RequestError) as error:
        scatter_linear(**{"in_channels": 1, "num_classes": 3, "image_size": 8, **options})
    assert error.value.key == key
