"""Pixels in a mapped file count from the moment they are read: the few are read, the many are counted."""

import numpy as np
import pytest
import torch

from runner.autotune import resident_pages
from runner.data.feed import Feed
from runner.data.images import ImageData, ImageSet


@pytest.fixture
def stored(tmp_path):
    """Ten images of 2 x 2 pixels in a mapped file of twelve, and their data."""
    np.save(tmp_path / "images.npy", np.zeros((12, 2, 2, 1), dtype=np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="c")
    rows = np.arange(10)
    split = ImageSet(images=images, labels=np.zeros(10, dtype=np.int64), rows=rows, names=None)
    return split, ImageData(
        name="stored", classes=("a",), train=split, val=None, test=None, mean=(0.5,), std=(0.5,), channels=1,
        image_size=2, fingerprint="", origin="", skipped=(),
    )  # fmt: skip


def test_the_many_are_counted_and_the_few_are_read(stored, monkeypatch):
    split, data = stored
    place = {"device": torch.device("cpu"), "dtype": torch.float32, "channels_last": False, "augment": None}
    prepared = Feed(split, data, **place)
    assert prepared.is_ready, "so few are normalised beforehand"
    assert resident_pages.unread_bytes(split, prepared, 0) == 0
    monkeypatch.setattr("runner.data.feed.READY_BYTES", 0)
    feed = Feed(split, data, **place)
    assert resident_pages.unread_bytes(split, feed, 3) == 7 * 4
    assert resident_pages.unread_bytes(split, feed, 12) == 0
    assert resident_pages.read_on(split, feed, 3) == 0
    monkeypatch.setattr(resident_pages, "FEW", 9)
    assert resident_pages.read_on(split, feed, 3) == 7 * 4
