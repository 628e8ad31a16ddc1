"""Small networks on the scattering transform, a convolutional network with fixed wavelets (Bruna and Mallat 2013).

The front end of Tramer and Boneh, "Differentially Private Learning Needs Better Features" (ICLR 2021): first and second
order, J = 2 octaves, L = 8 directions, then group normalisation without learned statistics.
"""

from __future__ import annotations

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.errors import RequestError
from runner.models.fixed_features import FixedFeatures


class Scattering(FixedFeatures):
    """Scattering coefficients of each colour: [b, C, N, N] to [b, C * paths, side, side], side = ceil(N / 2^J).

    With * for convolution, w_(j,l) for the wavelet of scale 2^j in direction l and a for the average over 2^J pixels,
    the paths are x * a, then |x * w_(j,l)| * a, then ||x * w_(j,l)| * w_(k,m)| * a for k > j, all sampled every
    2^J pixels: 1 + JL + L^2 J(J-1)/2 of them, 81 for J = 2 and L = 8 (Bruna and Mallat, "Invariant Scattering
    Convolution Networks", TPAMI 2013, section 2).  Convolutions are products of Fourier transforms; the image is
    mirrored at its border.  A modulus of scale 2^j is sampled every 2^j pixels before it is convolved again.
    """

    def __init__(self, *, in_channels: int, image_size: int, scales: int, directions: int, groups: int | None) -> None:
        """See ``scatter_linear`` for the arguments.

        Raises:
            RequestError: a number out of its range, or an image too small for the scales.
        """
        super().__init__()
        if not isinstance(scales, int) or scales < 1:
            raise RequestError("model.scales", scales, "an integer >= 1")
        if not isinstance(directions, int) or directions < 1:
            raise RequestError("model.directions", directions, "an integer >= 1")
        self._step = 2**scales
        self.side = -(-image_size // self._step)
        self._before = self._step
        self._after = self._step + self.side * self._step - image_size
        if image_size <= self._after:
            raise RequestError("data.image_size", image_size, f"> {self._after} for model.scales={scales}")
        paths = 1 + scales * directions + directions**2 * scales * (scales - 1) // 2
        self.channels = in_channels * paths
        if groups is not None and (not isinstance(groups, int) or groups < 1 or self.channels % groups):
            raise RequestError("model.groups", groups, f"null or a divisor of the {self.channels} channels")
        self._groups = groups
        self._scales = scales
        padded = self._before + image_size + self._after
        self._average = [f"_average_{j}" for j in range(scales + 1)]
        for j, name in enumerate(self._average):
            self._keep(name, _fold(_low_pass(padded, scales), 2**j) * 4**j)
        for j in range(scales):
            bank = torch.stack([_wavelet(padded, j, direction, directions) for direction in range(directions)])
            for k in range(j + 1):
                # what a wavelet of scale j looks like where its input is sampled every 2^k pixels already
                self._keep(f"_wavelets_{j}_{k}", _fold(bank, 2**k) * 4**k)

    def _keep(self, name: str, filters: Tensor) -> None:
        # real, because the filters are symmetric; not persistent, because they follow from the options
        self.register_buffer(name, filters.float(), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """[b, channels, side, side], normalised by groups of channels."""
        count, colours = images.shape[:2]
        pad = (self._before, self._after, self._before, self._after)
        # the paths are the third axis: [b, C, 1, N, N]
        image = torch.fft.fft2(F.pad(images, pad, mode="reflect")).unsqueeze(2)
        orders: list[list[Tensor]] = [[self._smooth(image, 0)], [], []]
        for j in range(self._scales):
            first = self._moduli(image, j, 0)
            orders[1].append(self._smooth(first, j))
            orders[2] += [self._smooth(self._moduli(first, k, j), k) for k in range(j + 1, self._scales)]
        found = torch.cat([paths for order in orders for paths in order], dim=2)
        found = found.reshape(count, colours * found.shape[2], self.side, self.side)
        return found if self._groups is None else F.group_norm(found, self._groups)

    def _moduli(self, spectrum: Tensor, scale: int, sampled: int) -> Tensor:
        """Spectra of |x * w| for every direction of ``scale``, sampled every 2^scale pixels.

        ``spectrum`` is [b, C, paths, n, n] of signals sampled every 2^sampled pixels.
        """
        wavelets = getattr(self, f"_wavelets_{scale}_{sampled}")
        spread = (spectrum.unsqueeze(3) * wavelets).flatten(2, 3)
        response = torch.fft.ifft2(_fold(spread, 2 ** (scale - sampled)))
        return torch.fft.fft2((response.real.square() + response.imag.square() + _TINY).sqrt())

    def _smooth(self, spectrum: Tensor, sampled: int) -> Tensor:
        """Averages every 2^J pixels, without those of the padding: [b, C, paths, side, side]."""
        low = spectrum * getattr(self, self._average[sampled])
        average = torch.fft.ifft2(_fold(low, 2 ** (self._scales - sampled))).real
        return average[..., 1 : 1 + self.side, 1 : 1 + self.side]


_TINY = 1e-12
"""Keeps the slope of the modulus finite where there is nothing."""


def _fold(spectrum: Tensor, factor: int) -> Tensor:
    """The spectrum, [..., n / factor, n / factor], of a signal of which every ``factor``-th sample is kept."""
    if factor == 1:
        return spectrum
    size = spectrum.shape[-1] // factor
    return spectrum.unflatten(-1, (factor, size)).unflatten(-3, (factor, size)).mean(dim=(-4, -2))


def _low_pass(size: int, scales: int) -> Tensor:
    """Fourier transform of the Gaussian average over 2^scales pixels: float64 [size, size], 1 at frequency zero."""
    envelope = _envelope(size, 0.8 * 2 ** (scales - 1), 0.0, 1.0)
    return torch.fft.fft2(envelope / envelope.sum()).real


def _wavelet(size: int, scale: int, direction: int, directions: int) -> Tensor:
    """Fourier transform of a Morlet wavelet, whose mean is zero: float64 [size, size]."""
    angle = math.pi * direction / directions
    width, slant = 0.8 * 2**scale, 4.0 / max(directions, 4)
    envelope = _envelope(size, width, angle, slant).to(torch.complex128)
    wave = torch.zeros_like(envelope)
    frequency = 0.75 * math.pi / 2**scale
    for down, across in product(range(-_WRAPS, _WRAPS + 1), repeat=2):
        y, x = _positions(size, down, across)
        along = x * math.cos(angle) + y * math.sin(angle)
        wave += _gaussian(y, x, width, angle, slant) * torch.exp(1j * frequency * along)
    wavelet = wave - wave.sum() / envelope.sum() * envelope
    return torch.fft.fft2(wavelet * (slant / (2 * math.pi * width**2))).real


_WRAPS = 2
"""Periods on either side of the grid that reach into it."""


def _envelope(size: int, width: float, angle: float, slant: float) -> Tensor:
    """An elliptic Gaussian on a periodic grid, centred on its first sample: float64 [size, size]."""
    total = torch.zeros(size, size, dtype=torch.float64)
    for down, across in product(range(-_WRAPS, _WRAPS + 1), repeat=2):
        total += _gaussian(*_positions(size, down, across), width, angle, slant)
    return total


def _gaussian(y: Tensor, x: Tensor, width: float, angle: float, slant: float) -> Tensor:
    along = x * math.cos(angle) + y * math.sin(angle)
    beside = y * math.cos(angle) - x * math.sin(angle)
    return torch.exp(-(along.square() + (slant * beside).square()) / (2 * width**2))


def _positions(size: int, down: int, across: int) -> tuple[Tensor, Tensor]:
    """Rows and columns, [size, 1] and [1, size], of the grid moved by whole periods."""
    line = torch.arange(size, dtype=torch.float64)
    return (line + down * size).unsqueeze(1), (line + across * size).unsqueeze(0)


def scatter_linear(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    scales: int = 2,
    directions: int = 8,
    groups: int | None = 27,
) -> nn.Module:
    """Multinomial logistic regression on scattering coefficients: [b, C, H, W] to [b, num_classes].

    Args:
        in_channels: channels of the images.
        num_classes: classes of the data.
        image_size: height and width in pixels.
        scales: octaves J; the image shrinks by 2^J.
        directions: directions L of the wavelets.
        groups: groups of channels that are normalised, each example by itself; None for no normalisation.

    Raises:
        RequestError: a number out of its range, or an image too small for the scales.
    """
    front = Scattering(
        in_channels=in_channels, image_size=image_size, scales=scales, directions=directions, groups=groups
    )
    return nn.Sequential(front, nn.Flatten(), nn.Linear(front.channels * front.side**2, num_classes))


def scatter_cnn(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    scales: int = 2,
    directions: int = 8,
    groups: int | None = 27,
) -> nn.Module:
    """The small tanh networks of Tramer and Boneh on scattering coefficients; see ``scatter_linear``.

    From 32 pixels two 3x3 convolutions of 64 channels with pooling in between (theirs for CIFAR-10); below, two of 16
    and 32 channels, the first with stride 2, and a layer of 32 units (theirs for MNIST).
    """
    front = Scattering(
        in_channels=in_channels, image_size=image_size, scales=scales, directions=directions, groups=groups
    )
    layers: list[nn.Module]
    if image_size >= 32:
        side = front.side // 2
        layers = [
            *(nn.Conv2d(front.channels, 64, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(64 * side**2, num_classes)),
        ]
    else:
        side = -(-front.side // 2)
        layers = [
            *(nn.Conv2d(front.channels, 16, 3, stride=2, padding=1), nn.Tanh()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(32 * side**2, 32), nn.Tanh(), nn.Linear(32, num_classes)),
        ]
    return nn.Sequential(front, *layers)
