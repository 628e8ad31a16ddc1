"""Layers in front of a network that never change, computed once for each image of a run and kept.

The features of an image have the same bits in any batch, which is tried before they are kept: so an update on kept
features is that on the images themselves, to the bit.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from runner.data import augment as augmentation
from runner.data import feed as feeding
from runner.data.cache.cache_policy import choose_cache
from runner.data.cache.folder_cache import Cache, CacheEntry
from runner.data.cache.image_store import PROGRESS_SECONDS, allocate_map
from runner.data.feature_feed import FeatureFeed
from runner.data.feed import Feed
from runner.errors import RequestError
from runner.models.fixed_features import FixedFeatures, features_of, fixed_front, keeps_bits
from runner.training.distributed.agreement import main_process_first

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runner.config.schema import AugmentConfig
    from runner.data.images import ImageData, ImageSet
    from runner.planning.plan import Plan
    from runner.training.distributed.world import World

log = logging.getLogger(__name__)

_T = TypeVar("_T")

SMALL_BYTES = 2**24
"""Features that take no more are never written: computing them takes about as long as reading them."""
TRIED = 9
"""Random images by which it is tried whether features depend on the batch."""
REHEARSED = 64
"""Images of a split whose features stand for those of all others where only time and memory are wanted."""
_PIECE = {"cpu": 64}
_PIECE_ELSEWHERE = 1024
_FILE = "features.npy"


@dataclass(frozen=True, kw_only=True)
class KeptSplit:
    """The features of a split, for people and forecasts."""

    nbytes: int
    """Of all its images."""
    seconds: float
    """For computing them all, by those that were; 0 where they were read."""
    described: str


def front_to_keep(model: nn.Module, images: Tensor) -> tuple[tuple[FixedFeatures, ...], tuple[int, ...]]:
    """The first layers of ``model`` whose features can be kept, and the shape of those of one image.

    ``images`` [b, C, H, W] are any.  No layers where there are none that never change, or where the features of an
    image depend on the rest of its batch in the last bit.  They are told to hand on features that come in the place of
    images.
    """
    front = fixed_front(model)
    while front and not _can_stand_for(front, images):
        front = front[:-1]
    shape = tuple(features_of(front, images).shape[1:])
    for layer in front:
        layer.given = shape
    return front, shape


def _can_stand_for(front: tuple[FixedFeatures, ...], images: Tensor) -> bool:
    shapes = [features_of(front[:count], images).shape[1:] for count in range(len(front) + 1)]
    # what comes is told from images by its shape
    return shapes[-1] not in shapes[:-1] and keeps_bits(front, images)


class FeatureCache:
    """The features of a run's splits."""

    def __init__(
        self,
        front: tuple[FixedFeatures, ...],
        shape: tuple[int, ...],
        probe: bytes,
        data: ImageData,
        world: World,
        *,
        dtype: torch.dtype,
        rounded: bool,
        channels_last: bool,
        rehearsed: bool,
    ) -> None:
        """Keep what ``front`` makes of images of ``data``.

        Args:
            front: the layers, on the device of ``world``.
            shape: of the features of one image.
            probe: the features of images that are always the same: what is kept is that of layers which gave these.
            data: the run's.
            world: its processes.
            dtype: of the batches.
            rounded: whether features are kept in bfloat16.
            channels_last: memory format of the images.
            rehearsed: whether a few images may stand for all, because nothing is learned.
        """
        self.shape = shape
        self.kept: dict[str, KeptSplit] = {}
        """By split, as far as they were asked for."""
        self._front = front
        self._probe = probe
        self._data = data
        self._world = world
        self._dtype = dtype
        self._stored = np.dtype(np.uint16 if rounded else np.float64 if dtype == torch.float64 else np.float32)
        self._channels_last = channels_last
        self._rehearsed = rehearsed

    def feed(self, images: ImageSet, augment: AugmentConfig | None) -> FeatureFeed | None:
        """A feed of the features of ``images``, a split of the data; None where there is no room for them.

        Raises:
            RunError: an image cannot be decoded, or the cache is damaged; names it.
            RequestError: the cache's folder cannot be written or is full.
        """
        found, rows = np.unique(images.rows, return_inverse=True)
        rows = rows.reshape(-1)
        views = 2 if augment is not None and augment.flip else 1
        shape = (len(found) * views, *self.shape)
        nbytes = int(np.prod(shape)) * self._stored.itemsize
        name = next((name for name in ("train", "val", "test") if getattr(self._data, name) is images), "")
        if self._rehearsed:
            few = found[:REHEARSED]
            seconds, held = _timed(lambda: self._compute(images, few, augment, views, _in_memory))
            seconds *= len(found) / len(few)
            if self._find(name, found, views, nbytes) is not None:
                seconds = 0.0
            self.kept[name] = KeptSplit(nbytes=nbytes, seconds=seconds, described=f"{len(found):,} {name}")
            return self._feed(held, rows % len(few), images, views)
        seconds, (found_held, where) = _timed(lambda: self._hold(images, found, augment, views, name, nbytes))
        if found_held is None:
            return None
        described = f"{len(found):,} {name}{' in both views' * (views > 1)} {where}, {_size(nbytes)}, {seconds:.1f} s"
        self.kept[name] = KeptSplit(nbytes=nbytes, seconds=seconds, described=described)
        log.info("%s of %s", self.layers, described)
        return self._feed(found_held, rows, images, views)

    def hand_on(self, model: nn.Module) -> None:
        """Tell the same layers of another ``model`` to hand on features that come in the place of images."""
        for layer, _ in zip(fixed_front(model), self._front, strict=False):
            layer.given = self.shape

    @property
    def layers(self) -> str:
        """The names of what is kept."""
        return " and ".join(type(layer).__name__ for layer in self._front)

    def note(self) -> str | None:
        """What to say of the splits so far."""
        if not self.kept:
            return None
        return f"{self.layers} once for each image: " + "; ".join(s.described for s in self.kept.values())

    def _feed(self, held: NDArray[Any], rows: NDArray[np.int64], images: ImageSet, views: int) -> FeatureFeed:
        return FeatureFeed(
            held, rows=rows, labels=images.labels, views=views, device=self._world.device, dtype=self._dtype
        )

    def _hold(
        self,
        images: ImageSet,
        found: NDArray[np.int64],
        augment: AugmentConfig | None,
        views: int,
        name: str,
        size: int,
    ) -> tuple[NDArray[Any] | None, str]:
        """The features of the images at the rows ``found``, and where they are."""
        keeping = self._data.keeping
        if keeping.mode == "off":
            return None, ""
        key = self._key(name, found, views)
        if key is None or size <= SMALL_BYTES or keeping.mode == "memory":
            return self._compute(images, found, augment, views, _in_memory), "in memory"
        cache = Cache(keeping.folder, shared=keeping.shared)

        def hold() -> CacheEntry | str:
            if (entry := cache.find(key)) is not None:
                return entry
            mode = choose_cache(
                keeping.mode,
                lambda: size,
                cache.root,
                unwritable=cache.unwritable,
                what=f"the features of the {name} images",
                made="computed",
                in_batches="computed for each batch",
            )
            if mode != "disk":
                return mode

            def fill(folder: Path) -> None:
                self._compute(
                    images, found, augment, views, lambda shape, kind: allocate_map(folder / _FILE, shape, kind.type)
                )

            return cache.build(key, fill)

        entry = main_process_first(self._world, hold)
        if isinstance(entry, str):
            in_memory = entry == "memory"
            return (self._compute(images, found, augment, views, _in_memory) if in_memory else None), "in memory"
        return entry.map(_FILE), f"in {entry.folder}"

    def _find(self, name: str, found: NDArray[np.int64], views: int, nbytes: int) -> CacheEntry | None:
        """What an earlier run has kept."""
        keeping = self._data.keeping
        key = self._key(name, found, views)
        if key is None or nbytes <= SMALL_BYTES or keeping.mode in ("off", "memory"):
            return None
        return Cache(keeping.folder, shared=keeping.shared).find(key)

    def _compute(
        self,
        images: ImageSet,
        found: NDArray[np.int64],
        augment: AugmentConfig | None,
        views: int,
        allocate: Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]],
    ) -> NDArray[Any]:
        """The features ``[images * views, ...]`` of the images at the rows ``found``."""
        device = self._world.device
        each = replace(images, rows=found, labels=np.zeros(len(found), dtype=np.int64), names=None)
        feed = Feed(
            each, self._data, device=device, dtype=self._dtype, channels_last=self._channels_last, augment=augment
        )
        held = allocate((len(found) * views, *self.shape), self._stored)
        piece = _PIECE.get(device.type, _PIECE_ELSEWHERE)
        started = reported = time.monotonic()
        pieces = torch.arange(len(found)).split(piece)
        feed.announce(pieces[0])
        for number, rows in enumerate(pieces):
            if number + 1 < len(pieces):
                feed.announce(pieces[number + 1])
            place = held[int(rows[0]) * views : (int(rows[-1]) + 1) * views]
            for view in range(views):
                # the first view is the image as it is
                draws = None if views == 1 else torch.full((len(rows), augmentation.COLUMNS), 1.0 - view)
                features = features_of(self._front, feed.batch(rows, draws)[0])
                if self._stored == np.uint16:
                    features = features.to(torch.bfloat16).view(torch.uint16)
                place[view::views] = features.cpu().numpy()
            if (now := time.monotonic()) - reported >= PROGRESS_SECONDS:
                done = int(rows[-1]) + 1
                log.info("features of %d of %d images, %.0f a second", done, len(found), done / (now - started))
                reported = now
        feed.close()
        return held

    def _key(self, name: str, found: NDArray[np.int64], views: int) -> str | None:
        """Of the cache's entry: a hash of data, layers and code; None where one of them is not known."""
        data = self._data
        if not name or not data.fingerprint:
            return None
        try:
            code = [inspect.getsource(module) for module in (feeding, augmentation)]
            code += [inspect.getsource(inspect.getmodule(type(layer)) or type(layer)) for layer in self._front]
        except (OSError, TypeError):  # typed into an interpreter
            return None
        facts = {
            "split": [data.fingerprint, name, hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()],
            "images": [views, data.image_size, data.channels, data.mean, data.std, self._channels_last],
            "features": [str(self._dtype), str(self._stored), self.layers, torch.__version__],
            "code": hashlib.sha256("\0".join(code).encode()).hexdigest(),
            "probe": hashlib.sha256(self._probe).hexdigest(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def build_feature_cache(
    plan: Plan,
    model: nn.Module,
    data: ImageData,
    world: World,
    *,
    dtype: torch.dtype,
    channels_last: bool,
    rehearsed: bool = False,
) -> FeatureCache | None:
    """What keeps the features of ``model``, on its device, as ``plan`` says; None where nothing is kept.

    Raises:
        RequestError: features are to be rounded, and the model has none that never change.
    """
    semantic = plan.semantic
    if not plan.performance.features:
        return None
    images = torch.randn(TRIED, *semantic.data.image_shape, generator=torch.Generator().manual_seed(0))
    images = images.to(world.device, dtype)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    front, shape = front_to_keep(model, images)
    rounded = semantic.features_dtype != "float32"
    if not front:
        if rounded:
            got = f"{semantic.features_dtype} with model={semantic.model.name}, whose first layer can learn"
            raise RequestError("features.dtype", got, "float32, or a model such as scatter_cnn")
        return None
    return FeatureCache(
        front,
        shape,
        features_of(front, images).cpu().numpy().tobytes(),
        data,
        world,
        dtype=dtype,
        rounded=rounded,
        channels_last=channels_last,
        rehearsed=rehearsed,
    )


def _in_memory(shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    return np.empty(shape, dtype=kind)


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
