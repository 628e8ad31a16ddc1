"""RandAugment and TrivialAugment: operations that each image draws from a list, on whole batches.

The operations, their strengths and their arithmetic are those of torchvision's ``transforms.v2`` for uint8 images
(``RandAugment``, Cubuk et al. 2020; ``TrivialAugmentWide``, Mueller and Hutter 2021), pixels between pixels are the
nearest ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.data import affine

BINS = 31
"""Strengths of an operation, from none to its strongest."""

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601), to the digits that torchvision uses."""


@dataclass(frozen=True)
class Operation:
    """One entry of a policy's list."""

    change: Callable[[Tensor, Tensor], Tensor] | None
    """(images uint8 ``[k, C, H, W]``, strengths float64 ``[k]`` on the CPU) -> images; None leaves them as they are."""
    strengths: Callable[[int], Tensor] | None = None
    """Height and width of the image -> float32 ``[BINS]``; None where there is only one way to do it."""
    signed: bool = False
    """Whether half of the strengths are negative."""


def apply_operation(images: Tensor, operations: tuple[Operation, ...], draws: Tensor, *, fixed: int | None) -> Tensor:
    """Change each image by one of ``operations``.

    Args:
        images: uint8 ``[b, C, H, W]``.
        operations: To draw from, all equally likely.
        draws: Uniform numbers in [0, 1) on the CPU, ``[b, 3]``: which operation, which sign, which strength.
        fixed: Number of the strength, from 0 to 30, instead of a drawn one.

    Returns:
        uint8 ``[b, C, H, W]``; ``images`` itself is not changed.
    """
    chosen = (draws[:, 0] * len(operations)).long()
    negative = draws[:, 1] < 0.5
    number = (draws[:, 2] * BINS).long() if fixed is None else torch.full_like(chosen, fixed)
    changed = images.clone()
    for index, operation in enumerate(operations):
        # The CPU knows which images, without asking the device.
        rows = torch.nonzero(chosen == index)[:, 0]
        if operation.change is None or not len(rows):
            continue
        strengths = torch.zeros(len(rows), dtype=torch.float64)
        if operation.strengths is not None:
            strengths = operation.strengths(images.shape[3])[number[rows]].to(torch.float64)
        if operation.signed:
            strengths = torch.where(negative[rows], -strengths, strengths)
        there = rows.to(images.device, non_blocking=True)
        changed.index_copy_(0, there, operation.change(images.index_select(0, there), strengths))
    return changed


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """``values`` [k] as float32 beside the images ``like``."""
    return values.to(torch.float32).to(like.device, non_blocking=True).view(-1, 1, 1, 1)


def _moved(images: Tensor, matrices: Tensor) -> Tensor:
    return affine.sample(images.to(torch.float32), matrices, mode="nearest").round_().to(torch.uint8)


def _shear_x(images: Tensor, levels: Tensor) -> Tensor:
    return _moved(images, affine.shears(levels, axis="x", size=images.shape[3]))


def _shear_y(images: Tensor, levels: Tensor) -> Tensor:
    return _moved(images, affine.shears(levels, axis="y", size=images.shape[2]))


def _translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    return _moved(images, affine.translations(pixels.trunc(), axis="x"))


def _translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    return _moved(images, affine.translations(pixels.trunc(), axis="y"))


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    return _moved(images, affine.rotations(degrees))


def _brightness(images: Tensor, change: Tensor) -> Tensor:
    return (images * _per_image(1 + change, images)).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Whole numbers float32 ``[k, 1, H, W]``; bands other than colours stay as they are."""
    if images.shape[1] != 3:
        return images.to(torch.float32)
    red, green, blue = images.unbind(1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]).floor_().unsqueeze(1)


def _blend(images: Tensor, others: Tensor, change: Tensor) -> Tensor:
    share, rest = _per_image(1 + change, images), _per_image(1 - (1 + change), images)
    return (images * share + others * rest).clamp_(0, 255).to(torch.uint8)


def _color(images: Tensor, change: Tensor) -> Tensor:
    return _blend(images, _grey(images), change) if images.shape[1] == 3 else images


def _contrast(images: Tensor, change: Tensor) -> Tensor:
    grey = _grey(images)
    # Sums of whole numbers, which are exact in any order.
    total = grey.to(torch.int64).sum(dim=(1, 2, 3), keepdim=True)
    return _blend(images, total.to(torch.float32) / grey[0].numel(), change)


def _sharpness(images: Tensor, change: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if height <= 2 or width <= 2:
        return images
    pixels = images.to(torch.float32)
    inner = pixels[:, :, 1:-1, 1:-1]
    # 3 x 3 neighbours, the middle one five times, over 13: sums of whole numbers, exact in any order.
    total = 4 * inner
    for down in range(3):
        for right in range(3):
            total = total + pixels[:, :, down : down + height - 2, right : right + width - 2]
    blurred = (total / 13).round_()
    sharpened = inner + (blurred - inner) * _per_image(1 - (1 + change), images)
    pixels[:, :, 1:-1, 1:-1] = sharpened.clamp_(0, 255)
    return pixels.to(torch.uint8)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    masks = (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    return images & masks.to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def _solarize(images: Tensor, level: Tensor) -> Tensor:
    return torch.where(images >= _per_image(255 * level, images), 255 - images, images)


def _autocontrast(images: Tensor, _: Tensor) -> Tensor:
    pixels = images.to(torch.float32)
    low, high = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return ((pixels - torch.where(flat, 0.0, low)) / scale).clamp_(0, 255).to(torch.uint8)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    """Pillow's histogram equalisation of each channel, in whole numbers."""
    flat = images.flatten(2).long()
    counts = torch.zeros((*flat.shape[:2], 256), dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, flat, counts.new_ones(1).expand_as(flat))
    below = counts.cumsum(2)
    brightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - brightest).div(255, rounding_mode="floor")
    table = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp(0, 255).to(torch.uint8)
    table = F.pad(table[:, :, :-1], (1, 0))
    return torch.where(step[..., None] > 0, table.gather(2, flat).view_as(images), images)


def _up_to(strongest: float, _: int) -> Tensor:
    return torch.linspace(0.0, strongest, BINS)


def _up_to_share(strongest: float, size: int) -> Tensor:
    return torch.linspace(0.0, strongest * size, BINS)


def _bits(fewer: int, _: int) -> Tensor:
    return (8 - torch.arange(BINS) / ((BINS - 1) / fewer)).round()


def _level(_: int) -> Tensor:
    return torch.linspace(1.0, 0.0, BINS)


def _list(
    *, shear: float, translation: Callable[[int], Tensor], rotation: float, colours: float, bits: int
) -> tuple[Operation, ...]:
    moves, change = partial(_up_to, shear), partial(_up_to, colours)
    return (
        Operation(None),
        Operation(_shear_x, moves, signed=True),
        Operation(_shear_y, moves, signed=True),
        Operation(_translate_x, translation, signed=True),
        Operation(_translate_y, translation, signed=True),
        Operation(_rotate, partial(_up_to, rotation), signed=True),
        Operation(_brightness, change, signed=True),
        Operation(_color, change, signed=True),
        Operation(_contrast, change, signed=True),
        Operation(_sharpness, change, signed=True),
        Operation(_posterize, partial(_bits, bits)),
        Operation(_solarize, _level),
        Operation(_autocontrast),
        Operation(_equalize),
    )


RAND = _list(shear=0.3, translation=partial(_up_to_share, 150 / 331), rotation=30.0, colours=0.9, bits=4)
"""RandAugment's operations, in torchvision's order."""

TRIVIAL = _list(shear=0.99, translation=partial(_up_to, 32.0), rotation=135.0, colours=0.99, bits=6)
"""TrivialAugment's, which are the same and go further."""
