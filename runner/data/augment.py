"""Random changes to a batch of training images, each example by its own draw, all at once and on any device.

Draws and changes are apart: the draws of a whole logical batch are made first, as a function of (seed, step), so that
neither the split into micro-batches nor the number of processes changes what happens to an example.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from runner.config.augment_config import AugmentConfig
from runner.data import affine, policies

# One column for each use, drawn whether it is on or not: switching jitter on leaves the crops as they were.
(
    CROP_TOP,
    CROP_LEFT,
    FLIP,
    AREA,
    ASPECT,
    BOX_TOP,
    BOX_LEFT,
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
) = range(10)
COLUMNS = 10

# The column that follows those where hue is on; it came later, and takes bits that they leave over.
HUE = COLUMNS
MOST_COLUMNS = HUE + 1

# The columns that follow those where one of the changes is on that came last: numbers of their own, so that theirs stay
# what they were.  An operation of a policy takes two or three, from OPERATIONS on.
ROTATION, ERASE, ERASED_AREA, ERASED_ASPECT, ERASED_TOP, ERASED_LEFT, OPERATIONS = range(MOST_COLUMNS, MOST_COLUMNS + 7)
MORE_COLUMNS = 16

# Keeps these numbers apart from other uses of Philox under the same (seed, step): the highest word of its counter.
STREAM = 0x61756700
MORE_STREAM = STREAM + 1

# Range of width / height in the crops of Szegedy et al. 2015, section 6.
ASPECTS = (3 / 4, 4 / 3)

# Range of height / width of the boxes of random erasing, torchvision's.
ERASED_ASPECTS = (0.3, 3.3)


def is_on(config: AugmentConfig) -> bool:
    """Whether ``config`` changes any image."""
    return config.changes_pixels


def blocks(config: AugmentConfig) -> tuple[int, ...]:
    """Columns that are drawn for an image, in blocks of at most 16: a later one leaves those before it as they are."""
    return (MOST_COLUMNS, MORE_COLUMNS) if config.draws_more else (MOST_COLUMNS,)


def draw(config: AugmentConfig, seed: int, step: int, n: int) -> Tensor | None:
    """Draw the uniform numbers in [0, 1) that decide the changes to a logical batch.

    Counter-based (Philox 4x64-10, Salmon et al. 2011): row i is a function of (seed, step, i) alone, so the first rows
    of a longer batch are those of a shorter one, and a step can be drawn without the steps before it.

    Args:
        config: What is on.
        seed: Seed of the run; any integer, taken modulo 2**64.
        step: Number of the update.
        n: Examples in the logical batch.

    Returns:
        float32 on the CPU, ``[n, COLUMNS]``, with ``hue`` one column more, with later changes ``sum(blocks(config))``
        of them, or None when nothing is on.
    """
    if not is_on(config):
        return None
    # Typed, because numpy reads a list that holds both small and very large integers as floating point.
    key, counter = np.array([seed % 2**64, step], dtype=np.uint64), np.array([0, 0, 0, STREAM], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(n * COLUMNS).reshape(n, COLUMNS)
    # 24 bits: what float32 holds without ever rounding up to 1.
    whole = raw >> 40
    if config.hue or config.draws_more:
        whole = np.concatenate((whole, raw[:, BRIGHTNESS : BRIGHTNESS + 1] >> 16 & 0xFFFFFF), axis=1)
    if config.draws_more:
        counter[3] = MORE_STREAM
        more = np.random.Philox(key=key, counter=counter).random_raw(n * MORE_COLUMNS).reshape(n, MORE_COLUMNS)
        whole = np.concatenate((whole, more >> 40), axis=1)
    return torch.from_numpy(whole.astype(np.float32) * np.float32(2**-24))


def is_mirrored(draws: Tensor) -> Tensor:
    """Whether ``flip`` mirrors the image of each row of draws, bool ``[b]``."""
    return draws[:, FLIP] < 0.5


def apply(config: AugmentConfig, images: Tensor, draws: Tensor, *, image_size: int) -> Tensor:
    """Change each image by its row of draws, in the order of the keys of ``AugmentConfig``.

    Args:
        config: What is on.
        images: ``[b, C, H, W]``, values 0..255; uint8 or floating point; fastest in channels-last memory.
        draws: Uniform numbers in [0, 1), rows of what :func:`draw` gave or as many columns, ``[b, ...]`` on the CPU.
        image_size: Height and width of the result.  The images have that size already, or ``random_resized_crop`` is
            on and brings them to it.

    Returns:
        ``[b, C, image_size, image_size]`` in channels-last memory, values 0..255: uint8 where pixels were only moved,
        float32 (or the images' own floating type) where they were computed.
    """
    # Without a padded crop in between, a mirrored image is one whose box is sampled from right to left.
    backwards = config.flip and config.random_resized_crop and not config.crop_padding
    # Mirroring half of the batch needs the half's row numbers, which the CPU can tell without asking the device.
    mirrored = torch.nonzero(is_mirrored(draws))[:, 0] if config.flip and not backwards else None
    known, draws = draws, draws.to(images.device, non_blocking=True)
    if config.random_resized_crop:
        boxes = _boxes(draws, images.shape[2], images.shape[3], *config.crop_area)
        images = _resize_boxes(images, boxes, image_size, is_mirrored(draws) if backwards else None)
    if config.crop_padding:
        images = _crop_padded(images, draws, config.crop_padding)
    if mirrored is not None:
        images = _mirror(images, mirrored.to(images.device, non_blocking=True))
    if config.rotation:
        images = _rotate(images, known, config.rotation)
    if config.rand_augment or config.trivial_augment:
        images = _by_policy(config, images, known)
    if config.color_jitter:
        images = _jitter(images, draws, config.color_jitter)
    if config.hue and images.shape[1] == 3:
        images = _turn_hue(images, draws, config.hue)
    if config.erasing:
        images = _erase(images, draws, config.erasing, config.erasing_area)
    return images


def _rows_last(images: Tensor) -> Tensor:
    """``[b, H, W, C]``, contiguous; a view where the images are in channels-last memory."""
    return images.permute(0, 2, 3, 1).contiguous()


def _crop_padded(images: Tensor, draws: Tensor, padding: int) -> Tensor:
    """Surround with ``padding`` black pixels and cut a window of the old size, every position equally likely."""
    count, channels, height, width = images.shape
    if count == 0:
        return images
    offsets = (draws[:, [CROP_TOP, CROP_LEFT]] * (2 * padding + 1)).long()
    tall, wide = height + 2 * padding, width + 2 * padding
    canvas = images.new_zeros(count, tall, wide, channels)
    canvas[:, padding : padding + height, padding : padding + width] = images.permute(0, 2, 3, 1)
    # A row of a window is one run of memory, so the crop gathers runs: every run of that length, by its first pixel,
    # is a row of an overlapping view.
    runs = canvas.view(-1).as_strided((count * tall * wide - width + 1, width * channels), (channels, 1))
    example = torch.arange(count, device=images.device)[:, None]
    row = torch.arange(height, device=images.device)
    first = (example * tall + offsets[:, :1] + row) * wide + offsets[:, 1:]
    cropped = runs.index_select(0, first.view(-1)).view(count, height, width, channels)
    return cropped.permute(0, 3, 1, 2)


def _mirror(images: Tensor, rows: Tensor) -> Tensor:
    """Mirror the images at ``rows`` left to right."""
    pixels = _rows_last(images)
    return pixels.index_copy(0, rows, pixels.index_select(0, rows).flip(2)).permute(0, 3, 1, 2)


def _boxes(draws: Tensor, height: int, width: int, low: float, high: float) -> Tensor:
    """Boxes of random area and aspect, in whole pixels, ``[b, 4]`` float32: top, left, height, width.

    Sides that would leave the image are cut to its own, where the usual loop would draw again: the same number of
    draws for every example is what lets them depend on its position alone.
    """
    area = (low + (high - low) * draws[:, AREA]) * (height * width)
    lowest, highest = math.log(ASPECTS[0]), math.log(ASPECTS[1])
    aspect = torch.exp(lowest + (highest - lowest) * draws[:, ASPECT])
    tall = torch.sqrt(area / aspect).round().clamp(1, height)
    wide = torch.sqrt(area * aspect).round().clamp(1, width)
    top = torch.floor(draws[:, BOX_TOP] * (height - tall + 1))
    left = torch.floor(draws[:, BOX_LEFT] * (width - wide + 1))
    return torch.stack((top, left, tall, wide), dim=1)


def _resize_boxes(images: Tensor, boxes: Tensor, size: int, backwards: Tensor | None) -> Tensor:
    """Bilinear samples of each image's box, ``[b, C, size, size]``; equal to cutting the box out and resizing it.

    Columns run from right to left where ``backwards``, bool ``[b]``, says so.

    No low-pass filter: a box is at most a few times the size (see ``MARGIN`` in ``image_store``).
    """
    pixels = images if images.is_floating_point() else images.to(torch.float32)
    height, width = images.shape[2:]
    boxes = boxes.to(pixels.dtype)
    centre = torch.arange(size, device=images.device, dtype=pixels.dtype) + 0.5

    def places(start: Tensor, length: Tensor, whole: int) -> Tensor:
        inside = centre * (length / size)[:, None] - 0.5
        # Held within the box, because pixels beyond its edge are no part of a crop.
        inside = torch.minimum(inside.clamp(min=0), (length - 1)[:, None])
        return (2 * (inside + start[:, None]) + 1) / whole - 1

    y, x = places(boxes[:, 0], boxes[:, 2], height), places(boxes[:, 1], boxes[:, 3], width)
    if backwards is not None:
        x = torch.where(backwards[:, None], x.flip(1), x)
    grid = torch.stack((x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)), dim=3)
    sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def _rotate(images: Tensor, draws: Tensor, most: float) -> Tensor:
    """Turn each image about its middle by up to ``most`` degrees, either way, sampled bilinearly."""
    pixels = images if images.is_floating_point() else images.to(torch.float32)
    degrees = most * (2 * draws[:, ROTATION].to(torch.float64) - 1)
    turned = affine.sample(pixels, affine.rotations(degrees), mode="bilinear")
    return turned.contiguous(memory_format=torch.channels_last)


def _by_policy(config: AugmentConfig, images: Tensor, draws: Tensor) -> Tensor:
    """Operations of RandAugment or of TrivialAugment on whole levels, uint8."""
    whole = images.round().to(torch.uint8) if images.is_floating_point() else images
    if config.trivial_augment:
        drawn = draws[:, OPERATIONS : OPERATIONS + 3]
        whole = policies.apply_operation(whole, policies.TRIVIAL, drawn, fixed=None)
    for number in range(config.rand_augment):
        first = OPERATIONS + 2 * number
        drawn = draws[:, first : first + 2]
        whole = policies.apply_operation(whole, policies.RAND, drawn, fixed=config.rand_augment_magnitude)
    return whole.contiguous(memory_format=torch.channels_last)


def _erase(images: Tensor, draws: Tensor, probability: float, area: list[float]) -> Tensor:
    """Paint a box black, in that share of the images."""
    height, width = images.shape[2:]
    low, high = (math.log(limit) for limit in ERASED_ASPECTS)
    painted = (area[0] + (area[1] - area[0]) * draws[:, ERASED_AREA]) * (height * width)
    aspect = torch.exp(low + (high - low) * draws[:, ERASED_ASPECT])
    tall = torch.sqrt(painted * aspect).round().clamp(1, height)
    wide = torch.sqrt(painted / aspect).round().clamp(1, width)
    top = torch.floor(draws[:, ERASED_TOP] * (height - tall + 1))
    left = torch.floor(draws[:, ERASED_LEFT] * (width - wide + 1))
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None]) & (draws[:, ERASE, None] < probability)
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _jitter(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Scale brightness, contrast and saturation, each by a factor in [1 - strength, 1 + strength], not below 0."""
    pixels = images if images.is_floating_point() else images.to(torch.float32)
    lowest = max(0.0, 1 - strength)
    factors = lowest + (1 + strength - lowest) * draws[:, [BRIGHTNESS, CONTRAST, SATURATION]]
    brightness, contrast, saturation = factors.to(pixels.dtype).view(-1, 3, 1, 1, 1).unbind(1)
    pixels = (pixels * brightness).clamp(0, 255)
    mean = _luma(pixels).mean(dim=(1, 2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, contrast).clamp(0, 255)
    if images.shape[1] != 3:  # bands other than colours have no saturation
        return pixels
    return torch.lerp(_luma(pixels).expand_as(pixels), pixels, saturation).clamp(0, 255)


def _turn_hue(images: Tensor, draws: Tensor, most: float) -> Tensor:
    """Turn the hue (of HSV) of each image by up to ``most`` of the circle, either way.

    Back from HSV without cases: a channel is V - V S max(0, min(k, 4 - k, 1)) with k = (n + 6 H) mod 6 and n = 5, 3, 1
    for red, green, blue.
    """
    pixels = images if images.is_floating_point() else images.to(torch.float32)
    red, green, blue = pixels.unbind(1)
    value, least = pixels.amax(1), pixels.amin(1)
    chroma = value - least
    safe = torch.where(chroma == 0, 1, chroma)
    sixths = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    turn = 6 * most * (2 * draws[:, HUE].to(pixels.dtype) - 1)
    place = sixths + turn[:, None, None] + torch.tensor([5.0, 3.0, 1.0], device=pixels.device)[:, None, None, None]
    place = place.to(pixels.dtype).remainder(6)
    part = torch.minimum(place, 4 - place).clamp(0, 1)
    return (value - chroma * part).permute(1, 0, 2, 3).contiguous(memory_format=torch.channels_last)


def _luma(pixels: Tensor) -> Tensor:
    if pixels.shape[1] != 3:
        return pixels
    red, green, blue = pixels.unbind(1)
    return (policies.LUMA[0] * red + policies.LUMA[1] * green + policies.LUMA[2] * blue).unsqueeze(1)
