"""Rotation, shear and translation of a batch, each image by its own matrix."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def sample(images: Tensor, matrices: Tensor, *, mode: Literal["nearest", "bilinear"]) -> Tensor:
    """Each pixel of the result from where its image's matrix points to; black from outside.

    Args:
        images: ``[b, C, H, W]``, floating point.
        matrices: float64 ``[b, 2, 3]`` on the CPU: from a place (x, y, 1) in the result, in pixels from the middle, to
            the place in the image.
        mode: Which pixels a place between them is made of.

    Returns:
        ``[b, C, H, W]``.
    """
    height, width = images.shape[2:]
    # Halved sizes are exact, so that this is one rounding, of the quotient.
    scaled = matrices.to(images.dtype) / torch.tensor([[[width / 2], [height / 2]]], dtype=images.dtype)
    scaled = scaled.to(images.device, non_blocking=True)
    x = torch.linspace((1 - width) / 2, (width - 1) / 2, width, dtype=images.dtype, device=images.device)
    y = torch.linspace((1 - height) / 2, (height - 1) / 2, height, dtype=images.dtype, device=images.device)
    # Products and sums, each rounded, and no matrix product: how that rounds depends on the size of the batch.
    across, down, start = (scaled[:, :, at, None, None] for at in range(3))
    grid = x * across + y[:, None] * down + start
    return F.grid_sample(images, grid.permute(0, 2, 3, 1), mode=mode, padding_mode="zeros", align_corners=False)


def rotations(degrees: Tensor) -> Tensor:
    """Matrices ``[b, 2, 3]`` of counter-clockwise turns about the middle by ``degrees``, float64 ``[b]``."""
    radians = degrees.deg2rad()
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    return torch.stack((cos, -sin, zero, sin, cos, zero), dim=1).view(-1, 2, 3)


def shears(levels: Tensor, *, axis: Literal["x", "y"], size: int) -> Tensor:
    """Matrices ``[b, 2, 3]`` that shift rows (columns for y) by ``levels`` times their distance from the first.

    ``levels`` is float64 ``[b]``, ``size`` the image's height and width.
    """
    one, zero = torch.ones_like(levels), torch.zeros_like(levels)
    # The corner (-size / 2, -size / 2) stays where it is, as in torchvision's RandAugment.
    shift = levels * (size / 2)
    rows = (one, levels, shift, zero, one, zero) if axis == "x" else (one, zero, zero, levels, one, shift)
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def translations(pixels: Tensor, *, axis: Literal["x", "y"]) -> Tensor:
    """Matrices ``[b, 2, 3]`` that move an image right (down for y) by ``pixels``, float64 ``[b]``."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    rows = (one, zero, -pixels, zero, one, zero) if axis == "x" else (one, zero, zero, zero, one, -pixels)
    return torch.stack(rows, dim=1).view(-1, 2, 3)
