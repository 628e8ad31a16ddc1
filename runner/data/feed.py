"""Batches on the device: rows in, normalised images and labels out, without a loader in between."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from runner.config.schema import AugmentConfig
from runner.data import augment as augmentation
from runner.data.cache.checked_map import CheckedMap
from runner.data.cache.image_store import cores
from runner.data.images import ImageData, ImageSet, LazyPixels
from runner.data.kept_memory import keep_freed_memory
from runner.data.prefetch import Prefetcher

# Sets that are not augmented and stay below this are normalised once, so that a batch is a single gather.
READY_BYTES = 256 * 2**20

# Share of a GPU's free memory that the pixels of one split may take: most of it belongs to the model.
RESIDENT_SHARE = 0.25

COPY_ROWS = 4096

# Float pixels that are augmented at a time on a CPU.
CHANGED_BYTES = 8 * 2**20

# Pixels that are normalised at a time on a CPU where all are kept: what is in between stays in its caches.
NORMALISED_BYTES = 2**20

# What a thread that works ahead does at a time: decoding takes milliseconds an image, gathering microseconds.
DECODED_ROWS = 4
GATHERED_ROWS = 256


class Feed:
    """One split on one device.

    Everything done to an example depends on that example and its draws alone, operation by operation, so batches split
    in any way hold the same bits.
    """

    def __init__(
        self,
        images: ImageSet,
        data: ImageData,
        *,
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
        augment: AugmentConfig | None,
    ) -> None:
        """Place ``images`` for access by position.

        Args:
            images: The split.
            data: Where it comes from: size, channels and the constants of the normalisation.
            device: Where batches are wanted.
            dtype: Floating type of the batches.  Normalisation is computed in it, or in float32 where it is narrower.
            channels_last: Memory format of the batches.
            augment: Random changes for batches that come with draws; None for none.
        """
        self._size = data.image_size
        self._channels = data.channels
        self._device = device
        self._dtype = dtype
        self._channels_last = channels_last
        self._augment = augment if augment is not None and augmentation.is_on(augment) else None
        self._compute = torch.promote_types(dtype, torch.float32)
        # In float64 until here: 1 / (255 std) is rounded once, to the type that it is used in.
        std = torch.tensor(data.std, dtype=torch.float64)
        mean = torch.tensor(data.mean, dtype=torch.float64)
        # Repeated along a row of pixels, [W * C], so that the innermost loop runs over a row and not over 3 channels.
        self._scale = (1 / (255 * std)).to(device, self._compute).repeat(self._size)
        self._shift = (-mean / std).to(device, self._compute).repeat(self._size)
        self._labels = torch.from_numpy(images.labels).to(device)
        self._rows: Tensor | None = torch.from_numpy(images.rows)
        self._ready: Tensor | None = None
        self._pixels: Tensor | None = None  # uint8 [N, H, W, C] on the CPU, maybe a memory map
        self._ahead: Prefetcher | None = None
        on_gpu = device.type == "cuda"
        if device.type == "cpu":
            keep_freed_memory()
        self._unchecked = images.images if isinstance(images.images, CheckedMap) else None
        if isinstance(images.images, np.ndarray):
            self._pixels = torch.from_numpy(images.images)
        else:
            self._ahead = _decoding(images.images, pinned=on_gpu)

        values = len(images) * data.channels * self._size**2
        if self._augment is None and values * dtype.itemsize <= READY_BYTES:
            self._ready = self._normalise_all()
            self.close()
        elif self._pixels is not None and on_gpu:
            if self._fits_on_device(self._pixels[0].numel() * len(images)):
                self._pixels, self._rows = self._copy_to_device(self._pixels), None
            else:
                self._ahead = _gathering(self._pixels, self._check)

    @property
    def augments(self) -> bool:
        """Whether batches change with draws."""
        return self._augment is not None

    @property
    def is_ready(self) -> bool:
        """Whether every example has been normalised beforehand, so that the stored pixels are not read again."""
        return self._ready is not None

    @property
    def decodes(self) -> bool:
        """Whether files are decoded for every batch, because nothing holds their pixels."""
        return self._pixels is None and self._ready is None

    def batch(self, rows: Tensor, draws: Tensor | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Gather examples.

        Raises:
            RunError: An image cannot be decoded, or the cache is damaged; names it.

        Args:
            rows: Positions within the split, int64 on the CPU, ``[b]``; b may be 0.
            draws: The rows of ``augment.draw`` for each copy, ``[b * copies, COLUMNS]`` on the CPU, or None for no
                augmentation.
            copies: Images of each example, side by side; more than one needs draws to differ by.

        Returns:
            Images ``[b * copies, C, H, W]`` and labels int64 ``[b]``, on the device.
        """
        at = rows.to(self._device, non_blocking=True)
        labels = self._labels.index_select(0, at)
        if self._ready is not None:
            ready = self._ready.index_select(0, at)
            return (ready.permute(0, 3, 1, 2) if self._channels_last else ready), labels
        pixels = self._gather(rows)
        if copies > 1:
            pixels = pixels.repeat_interleave(copies, dim=0)
        pixels = pixels.permute(0, 3, 1, 2)
        if self._augment is not None and draws is not None:
            return self._change(pixels, draws), labels
        return self._normalise(self._centre(pixels)), labels

    @property
    def works_ahead(self) -> bool:
        """Whether it helps to ``announce`` batches."""
        return self._ahead is not None

    def announce(self, rows: Tensor) -> None:
        """Say that ``batch(rows, ...)`` will be asked for, after what was announced before."""
        if self._ahead is not None and self._rows is not None and len(rows):
            self._ahead.announce(self._rows.index_select(0, rows))

    def close(self) -> None:
        """End the threads that work ahead, if there are any."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def span(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Examples ``start`` to ``stop`` - 1 as ``batch`` gives them without draws; no copy where they are ready."""
        if self._ready is None:
            return self.batch(torch.arange(start, stop), None)
        ready = self._ready[start:stop]
        return (ready.permute(0, 3, 1, 2) if self._channels_last else ready), self._labels[start:stop]

    def _gather(self, rows: Tensor) -> Tensor:
        """Pixels of the examples at ``rows``, uint8 ``[b, H, W, C]`` on the device."""
        if self._rows is None:
            assert self._pixels is not None
            return self._pixels.index_select(0, rows.to(self._device, non_blocking=True))
        stored = self._rows.index_select(0, rows)
        if self._ahead is not None:
            return self._ahead.take(stored).to(self._device, non_blocking=True)
        assert self._pixels is not None
        self._check(stored)
        return self._pixels.index_select(0, stored).to(self._device)

    def _check(self, stored: Tensor) -> None:
        """See, before the pixels in ``stored`` rows are used for the first time, that they are what was written."""
        if self._unchecked is not None:
            if self._unchecked.check_rows is None:
                self._unchecked = None
            else:
                self._unchecked.check_rows(stored.numpy())

    def _change(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Augmented and normalised; on a CPU so few at a time that what is in between stays in its caches."""
        assert self._augment is not None
        few = max(1, CHANGED_BYTES // (4 * pixels.shape[1:].numel())) if self._device.type == "cpu" else len(pixels)
        if len(pixels) <= few:
            return self._normalise(augmentation.apply(self._augment, pixels, draws, image_size=self._size))
        return torch.cat([self._change(*part) for part in zip(pixels.split(few), draws.split(few), strict=True)])

    def _centre(self, pixels: Tensor) -> Tensor:
        """The middle of images that are stored with a margin."""
        margin = pixels.shape[2] - self._size
        start = margin // 2
        return pixels[:, :, start : start + self._size, start : start + self._size] if margin else pixels

    def _normalise(self, pixels: Tensor) -> Tensor:
        """``(pixels / 255 - mean) / std`` in the wanted type and memory format, from ``[b, C, H, W]``."""
        count, channels, height, width = pixels.shape
        if self._channels_last:
            flat = pixels.permute(0, 2, 3, 1).reshape(count, height, width * channels)
            scale, shift = self._scale, self._shift
        else:  # into planes while they are small
            flat = pixels.contiguous().view(count, channels, height * width)
            scale, shift = self._scale[:channels, None], self._shift[:channels, None]
        # A product and a sum, each rounded, and no fused operation: how that rounds in vector loops and in their scalar
        # ends is up to the build of torch, and an example's bits must not depend on its place in the batch.
        scaled = flat.to(self._compute).mul_(scale).add_(shift).to(self._dtype)
        if self._channels_last:
            return scaled.view(count, height, width, channels).permute(0, 3, 1, 2)
        return scaled.view(count, channels, height, width)

    def _normalise_all(self) -> Tensor:
        """Every example of the split, normalised, in the order of memory that batches have."""
        assert self._rows is not None
        shape = (len(self._rows), self._channels, self._size, self._size)
        whole = torch.empty(shape, dtype=self._dtype, device=self._device)
        # channels_last batches are handed out as views of this
        whole = whole.view(shape[0], *shape[2:], shape[1]) if self._channels_last else whole
        few = COPY_ROWS
        if self._device.type == "cpu" and self._pixels is not None:
            few = max(1, NORMALISED_BYTES // (whole[0].numel() * whole.element_size()))
        for start in range(0, len(whole), few):
            part = whole[start : start + few]
            rows = torch.arange(start, start + len(part))
            images = self._normalise(self._centre(self._gather(rows).permute(0, 3, 1, 2)))
            part.copy_(images.permute(0, 2, 3, 1) if self._channels_last else images)
        return whole

    def _fits_on_device(self, count: int) -> bool:
        """Whether ``count`` bytes of pixels may stay there."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return count <= free * RESIDENT_SHARE

    def _copy_to_device(self, pixels: Tensor) -> Tensor:
        assert self._rows is not None
        resident = torch.empty((len(self._rows), *pixels.shape[1:]), dtype=torch.uint8, device=self._device)
        for start in range(0, len(self._rows), COPY_ROWS):
            part = self._rows[start : start + COPY_ROWS]
            self._check(part)
            resident[start : start + len(part)] = pixels.index_select(0, part).to(self._device)
        return resident


def _decoding(images: LazyPixels, *, pinned: bool) -> Prefetcher:
    """Decode files in all cores that the processes of this machine leave to this one."""
    threads = max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    def fill(rows: Tensor, out: Tensor) -> None:
        images.decode(rows.numpy(), out.numpy())

    return Prefetcher(fill, images.shape[1:], threads=threads, task=DECODED_ROWS, pinned=pinned)


def _gathering(pixels: Tensor, check: Callable[[Tensor], None]) -> Prefetcher:
    """Gather what does not fit on the device from memory, or from the disk, while the device is at work."""

    def fill(rows: Tensor, out: Tensor) -> None:
        check(rows)
        torch.index_select(pixels, 0, rows, out=out)

    return Prefetcher(fill, tuple(pixels.shape[1:]), threads=1, task=GATHERED_ROWS, pinned=True)
