"""Small networks on histograms of oriented gradients and pixels: for small images and few examples, or much noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.errors import RequestError
from runner.models.fixed_features import FixedFeatures, unit


class OrientedGradients(FixedFeatures):
    """Strength of the edges in each direction and cell of an image, and its pixels: [b, C, H, W] to [b, width].

    After Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection" (CVPR 2005), with soft directions
    in the place of bins, so that a slightly turned stroke gives slightly other features.  Edges and pixels are each
    brought to a norm of their own, so that every image has about the same norm and a bound on an example's gradient
    treats all examples alike.
    """

    def __init__(
        self, *, in_channels: int, image_size: int, orientations: int, cells: int, sharpness: float, pixel_share: float
    ) -> None:
        """See ``linear_hog`` for the arguments.

        Raises:
            RequestError: a number out of its range.
        """
        super().__init__()
        if not isinstance(orientations, int) or orientations < 2:
            raise RequestError("model.orientations", orientations, "an integer >= 2")
        if not isinstance(cells, int) or not 1 <= cells <= image_size:
            raise RequestError("model.cells", cells, f"an integer in [1, data.image_size={image_size}]")
        if not sharpness >= 1:
            raise RequestError("model.sharpness", sharpness, "a number >= 1")
        if not 0 <= pixel_share <= 1:
            raise RequestError("model.pixel_share", pixel_share, "a number in [0, 1]")
        angles = torch.arange(orientations, dtype=torch.float64) * (2 * math.pi / orientations)
        # not persistent: they follow from the options
        directions = torch.stack((angles.cos(), angles.sin())).float()
        self._directions: Tensor
        self.register_buffer("_directions", directions, persistent=False)
        self._cells = cells
        self._sharpness = float(sharpness)
        self._shares = (math.sqrt(1 - pixel_share), math.sqrt(pixel_share))
        self.width = orientations * cells**2 + in_channels * image_size**2

    def features(self, images: Tensor) -> Tensor:
        """[b, width]: edges by direction and cell, then pixels."""
        edges = unit(self._edges(images).flatten(1))
        # An image has edges of every direction; what tells images apart is which ones stand out.
        edges = edges - edges.mean(dim=1, keepdim=True)
        return torch.cat((self._shares[0] * edges, self._shares[1] * unit(images.flatten(1))), dim=1)

    def _edges(self, images: Tensor) -> Tensor:
        """[b, orientations, cells, cells]: root of the mean strength, summed over colours."""
        # The border is continued, because a frame of another colour would be the strongest edge.
        wide = torch.cat((images[..., :1], images, images[..., -1:]), dim=3)
        tall = torch.cat((images[:, :, :1], images, images[:, :, -1:]), dim=2)
        across = (wide[..., 2:] - wide[..., :-2]) / 2
        down = (tall[:, :, 2:] - tall[:, :, :-2]) / 2
        cosines, sines = self._directions.view(2, 1, -1, 1, 1, 1).unbind(0)
        # [b, orientations, C, H, W]
        along = F.relu(across.unsqueeze(1) * cosines + down.unsqueeze(1) * sines)
        strength = (across.square() + down.square() + _TINY).sqrt().unsqueeze(1)
        response = strength * (along / strength) ** self._sharpness
        return (F.adaptive_avg_pool2d(response.sum(dim=2), self._cells) + _TINY).sqrt()


_TINY = 1e-12
"""Keeps the slope of a root finite where there is no edge."""


class FourierFeatures(FixedFeatures):
    """Random Fourier features: [b, d] to [b, width], of norm 1, whose inner products approach a Gaussian kernel's.

    k(x, y) = exp(-(bandwidth |x - y|)^2 / 2); Rahimi and Recht, "Random Features for Large-Scale Kernel Machines"
    (NIPS 2007).  A linear model of them separates classes as a kernel machine does.  The random directions come from a
    constant and not from the run's seed: they are a part of the recipe, and are saved with the weights.
    """

    def __init__(self, inputs: int, width: int, bandwidth: float) -> None:
        """Raises ``RequestError`` unless ``width`` is even and positive and ``bandwidth`` positive."""
        super().__init__()
        if not isinstance(width, int) or width < 2 or width % 2:
            raise RequestError("model.fourier_features", width, "null or an even number >= 2")
        if not bandwidth > 0:
            raise RequestError("model.bandwidth", bandwidth, "a number > 0")
        generator = torch.Generator().manual_seed(_PUBLIC)
        self.directions: Tensor
        self.register_buffer("directions", bandwidth * torch.randn(inputs, width // 2, generator=generator))

    def features(self, images: Tensor) -> Tensor:
        """[b, width]: cosines, then sines."""
        phases = images @ self.directions
        return torch.cat((phases.cos(), phases.sin()), dim=1) / math.sqrt(phases.shape[1])


_PUBLIC = 7


def linear_hog(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    orientations: int = 8,
    cells: int = 4,
    sharpness: float = 2.0,
    pixel_share: float = 0.35,
    fourier_features: int | None = None,
    bandwidth: float = 2.0,
) -> nn.Module:
    """Multinomial logistic regression on oriented gradients and pixels: [b, C, H, W] to [b, num_classes].

    Args:
        in_channels: channels of the images.
        num_classes: classes of the data.
        image_size: height and width in pixels.
        orientations: directions of edges over the full circle.
        cells: cells per side over which edges are averaged.
        sharpness: power of the cosine between an edge and a direction; more makes directions narrower.
        pixel_share: share of the squared norm that the pixels have beside the edges.
        fourier_features: number of random Fourier features of all these; None takes them as they are.
        bandwidth: how fast the kernel of the Fourier features falls off.

    Raises:
        RequestError: a number out of its range.
    """
    front = OrientedGradients(
        in_channels=in_channels,
        image_size=image_size,
        orientations=orientations,
        cells=cells,
        sharpness=sharpness,
        pixel_share=pixel_share,
    )
    if fourier_features is None:
        return nn.Sequential(front, _head(front.width, num_classes))
    expansion = FourierFeatures(front.width, fourier_features, bandwidth)
    return nn.Sequential(front, expansion, _head(fourier_features, num_classes))


def mlp_hog(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    hidden: Sequence[int] = (64,),
    orientations: int = 8,
    cells: int = 4,
    sharpness: float = 2.0,
    pixel_share: float = 0.35,
) -> nn.Module:
    """A perceptron with a tanh layer per entry of ``hidden`` on oriented gradients and pixels; see ``linear_hog``.

    Tanh, because bounded activations bound gradients (Papernot et al. 2021).
    """
    if not hidden or any(not isinstance(width, int) or width < 1 for width in hidden):
        raise RequestError("model.hidden", list(hidden), "a list of at least one width, each >= 1")
    front = OrientedGradients(
        in_channels=in_channels,
        image_size=image_size,
        orientations=orientations,
        cells=cells,
        sharpness=sharpness,
        pixel_share=pixel_share,
    )
    layers: list[nn.Module] = [front]
    for before, after in pairwise([front.width, *hidden]):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], num_classes))


def _head(width: int, num_classes: int) -> nn.Linear:
    """Weights that start at zero, because a convex problem needs no random start, which would have to be unlearned.

    No bias: beside features of norm 1 its gradient would take half of what each example may contribute under DP.
    """
    head = nn.Linear(width, num_classes, bias=False)
    nn.init.zeros_(head.weight)
    return head
