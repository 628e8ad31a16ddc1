"""mixup and CutMix: each image of a logical batch combined with the one before it, and so their labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from runner.config.augment_config import AugmentConfig

# The two highest words of Philox's counter: other numbers than those of other uses under the same (seed, step), and
# others for each use here, so that switching one on leaves the other's as they are.
STREAM = 0x6D697800
MIXUP, CUTMIX, PLACES = range(3)


class Mixture(NamedTuple):
    """How much of itself each of b examples keeps, and where the rest of it is; on the CPU."""

    blend: Tensor
    """Weight of its own pixels outside the box, float64 [b]; 1 for CutMix."""
    boxes: Tensor
    """What CutMix takes from the other image, int64 [b, 4]: top, left, bottom, right; empty for mixup."""
    share: Tensor
    """Weight of its own label, float64 [b]."""

    def of(self, rows: Tensor) -> Mixture:
        """Those of the examples at ``rows``."""
        return Mixture(*(values[rows] for values in self))


class Mixer:
    """Mixes the logical batches of a run."""

    def __init__(self, config: AugmentConfig, *, seed: int, image_size: int, classes: int) -> None:
        """Of a run with ``seed`` on square images of ``image_size`` pixels and so many ``classes``."""
        self._config = config
        self._seed = seed
        self._size = image_size
        self._classes = classes

    def draw(self, step: int, n: int) -> Mixture:
        """Draw how the ``n`` examples of a logical batch are mixed; row i is a function of (seed, step, i) alone.

        With mixup (Zhang et al. 2018) a share lambda ~ Beta(a, a) of the example is left, a being ``config.mixup``;
        with CutMix (Yun et al. 2019, algorithm A1) a box of the share 1 - lambda, a being ``config.cutmix``, is
        replaced, where what lies outside of the image does not count.  Of both, one half of the examples each.
        """
        config, size = self._config, self._size
        places = self._philox(step, PLACES).random_raw(3 * n).reshape(n, 3)
        blend, boxes = np.ones(n), np.zeros((n, 4), dtype=np.int64)
        by_mixup = places[:, 2] >> 63 == 0 if config.mixup and config.cutmix else np.full(n, bool(config.mixup))
        if config.mixup:
            shares = np.random.Generator(self._philox(step, MIXUP)).beta(config.mixup, config.mixup, n)
            blend = np.where(by_mixup, shares, 1.0)
        if config.cutmix:
            shares = np.random.Generator(self._philox(step, CUTMIX)).beta(config.cutmix, config.cutmix, n)
            middle = (places[:, :2] % np.uint64(size)).astype(np.int64)
            half = (0.5 * np.sqrt(1 - shares) * size).astype(np.int64)[:, None]
            cut = np.concatenate((middle - half, middle + half), axis=1).clip(0, size)
            boxes = np.where(by_mixup[:, None], 0, cut)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        share = blend * (1 - area / size**2)
        return Mixture(torch.from_numpy(blend), torch.from_numpy(boxes), torch.from_numpy(share))

    def mix(self, images: Tensor, labels: Tensor, partners: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """Mix the first b images and labels with those of their partners.

        Args:
            images: float ``[m, C, H, W]``, m >= b, in any memory format.
            labels: int64 ``[m]``.
            partners: Rows of the partners, int64 [b] on the CPU.
            mixture: Of the b examples.

        Returns:
            Images ``[b, C, H, W]``, and the share of each class in the label, ``[b, K]`` in the images' type.
        """
        count, device, dtype = len(partners), images.device, images.dtype
        partners = partners.to(device, non_blocking=True)
        own, other = images[:count], _select(images, partners)
        mixed = own
        if self._config.mixup:
            blend, rest = (values.to(device, dtype).view(-1, 1, 1, 1) for values in (mixture.blend, 1 - mixture.blend))
            mixed = other * rest + own * blend
        if self._config.cutmix:
            top, left, bottom, right = mixture.boxes.to(device, non_blocking=True).unbind(1)
            y, x = (torch.arange(size, device=device) for size in images.shape[2:])
            rows = (y >= top[:, None]) & (y < bottom[:, None])
            columns = (x >= left[:, None]) & (x < right[:, None])
            mixed = torch.where((rows[:, :, None] & columns[:, None, :])[:, None], other, mixed)
        ones = F.one_hot(labels, self._classes).to(dtype)
        share, rest = (values.to(device, dtype)[:, None] for values in (mixture.share, 1 - mixture.share))
        shares = ones.index_select(0, partners) * rest + ones[:count] * share
        return mixed.contiguous(memory_format=_format_of(images)), shares

    def _philox(self, step: int, use: int) -> np.random.Philox:
        key = np.array([self._seed % 2**64, step], dtype=np.uint64)
        return np.random.Philox(key=key, counter=np.array([0, 0, use, STREAM], dtype=np.uint64))


def with_partners(positions: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The positions in a logical batch of ``n`` that a part of it needs, and where the partners are among them.

    Returns:
        ``positions``, int64 [b], followed by those of partners that are not among them; and for each of the b the place
        of its partner in that list.  A batch is shuffled, so that its neighbour is as good as any other example.
    """
    partners = (positions - 1) % n
    needed = torch.cat((positions, partners[~torch.isin(partners, positions)]))
    place = torch.empty(n, dtype=torch.int64)
    place[needed] = torch.arange(len(needed))
    return needed, place[partners]


def _format_of(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _select(images: Tensor, rows: Tensor) -> Tensor:
    """``images[rows]`` in the memory format of ``images``."""
    if _format_of(images) == torch.channels_last:
        return images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return images.index_select(0, rows)
