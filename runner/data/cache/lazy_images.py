"""Images that are decoded each time a batch needs them (``data.cache=off``)."""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.data.cache.folder_cache import Cache
from runner.data.cache.image_store import PixelFormat, Read, StoreLayout, common_size, find_bad, unequal
from runner.data.decoding.decode import fit, strict_decoding
from runner.data.decoding.memory_budget import ROOM
from runner.data.decoding.pixels import NOTE, BadImageError
from runner.data.images import Decoded
from runner.errors import RunError

log = logging.getLogger(__name__)


class LazyImages:
    """The rows of a layout at one size; see ``runner.data.images.LazyPixels``."""

    def __init__(
        self, layout: StoreLayout, read: Read, *, size: int, resize: bool, channels: int, interpolation: str
    ) -> None:
        """``resize=False`` refuses images of another size."""
        self._layout = layout
        self._read = read
        self._size = size
        self._resize = resize
        self._channels = channels
        self._interpolation = interpolation
        self._said: set[str] = set()

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, H, W, C)``."""
        return (len(self._layout.labels), self._size, self._size, self._channels)

    def decode(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Put the pixels of ``rows`` into ``out``, as ``image_store.decode_all`` computes them.

        Raises:
            RunError: A file cannot be decoded, or has another size; names it.
        """
        for place, row in enumerate(rows.tolist()):
            with ROOM.one_image():
                try:
                    image = self._read(row)
                except BadImageError as error:
                    raise RunError(
                        f"data.root: {self._layout.name(row)} cannot be decoded ({error});"
                        " data.on_bad_file=skip leaves such files out"
                    ) from error
                if not self._resize and image.size != (self._size, self._size):
                    raise RunError(str(unequal(self._layout.name(row), image, self._size)))
                out[place] = fit(image, size=self._size, channels=self._channels, interpolation=self._interpolation)
                if NOTE in image.info and image.info[NOTE] not in self._said:
                    self._said.add(image.info[NOTE])
                    log.warning("%s, for example %s", image.info[NOTE], self._layout.name(row))
                del image


def decode_lazily(
    layout: StoreLayout,
    read: Read,
    form: PixelFormat,
    *,
    cache: Cache,
    key: str,
    fingerprint: str,
    origin: str,
    skip_bad: bool,
) -> Decoded:
    """The data set with its pixels in their files.

    Under ``skip_bad`` all files are decoded once, to know which to leave out; these are kept, with the
    reasons, beside the cache's entries, by the ``key`` that an entry of the same images would have.

    Raises:
        RequestError: Images are not square where ``form.size`` is None, or none can be read.
    """
    _quieten()
    skipped: dict[int, str] = {}
    if skip_bad:
        note_name = f"unreadable-{key[:32]}.json"
        note = cache.read_note(note_name)
        if "skipped" not in note:
            note = {"skipped": json.dumps(find_bad(layout, read))}
            cache.write_note(note_name, note)
        skipped = dict(json.loads(note["skipped"]))
    with strict_decoding():
        size = form.size or common_size(layout, read, skip_bad=skip_bad)
    sizes = {"images": size} | ({"margin": form.margin} if form.margin else {})
    images = {
        name: LazyImages(
            layout,
            read,
            size=wanted,
            resize=form.size is not None,
            channels=form.channels,
            interpolation=form.interpolation,
        )
        for name, wanted in sizes.items()
    }
    return layout.decoded(images, skipped, fingerprint=fingerprint, origin=origin)


def _quieten() -> None:
    """Treat Pillow's warnings as ``strict_decoding`` does, for as long as the process decodes beside other work.

    Filters belong to the process, so these are for Pillow's modules alone.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
