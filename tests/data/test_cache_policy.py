"""Wherever decoded images are held, a batch has the same bits; what cannot be held is decoded beside the training."""

import logging
import shutil
import threading

import numpy as np
import pytest
import torch
from image_files import encode, noise, put

from runner.config.schema import AugmentConfig, DataConfig
from runner.data import feed
from runner.data.augment import draw
from runner.data.cache import cache_policy
from runner.data.decoding.decode import FORMATS
from runner.data.feed import Feed
from runner.data.images import SkippedFile
from runner.data.open import open_data
from runner.data.prefetch import Prefetcher
from runner.errors import RunError
from runner.training.checkpointing.checkpoint import load_checkpoint

MODES = ("disk", "memory", "off")
AUGMENT = AugmentConfig(random_resized_crop=True, flip=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Files of every size in two classes, one of which is grey."""
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("cat", "dog")):
        for i in range(20):
            image = noise((20 + i, 45 - i), seed=100 * number + i, mode="L" if i == 3 else "RGB")
            put(root / name / f"{i:02}.jpg", image, quality=90)
    return root


@pytest.fixture
def ask(tmp_path, photos):
    def ask(cache, root=photos, **keys):
        wanted = {"image_size": 16, "augment": AUGMENT, "cache_dir": str(tmp_path / "cache"), **keys}
        source = "runner.data.image_folder.load_image_folder"
        return open_data(DataConfig(target=source, name="photos", root=str(root), cache=cache, **wanted))

    return ask


def make(data, part="train", augment=AUGMENT):
    return Feed(
        getattr(data, part), data, device=torch.device("cpu"), dtype=torch.float32, channels_last=True, augment=augment
    )


def entries(tmp_path):
    return [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_all_ways_to_hold_images_give_the_same_bits(ask, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(feed, "READY_BYTES", 0)
    rows = torch.tensor([3, 0, 7, 3, 11])
    found = {}
    for mode in ("memory", "off", "disk"):
        data = ask(mode)
        # only a cache on disk leaves anything but notes behind
        assert bool(entries(tmp_path)) == (mode == "disk")
        train, val = make(data), make(data, "val", None)
        train.announce(rows)
        batches = [
            train.batch(rows, draw(AUGMENT, 0, 0, 5)),
            train.batch(torch.tensor([2, 5]), draw(AUGMENT, 0, 1, 4), copies=2),
            train.batch(rows[:0], draw(AUGMENT, 0, 2, 0)),
            val.batch(torch.arange(len(data.val)), None),
        ]
        assert train.works_ahead == (mode == "off")
        found[mode] = (data.fingerprint, data.train.names, [tensor for batch in batches for tensor in batch])
        for one in (train, val):
            one.close()
    for mode in ("memory", "off"):
        assert found[mode][:2] == found["disk"][:2]
        assert all(torch.equal(a, b) for a, b in zip(found[mode][2], found["disk"][2], strict=True))
    # an entry that is there is read into memory, not decoded
    caplog.set_level(logging.INFO)
    held = ask("memory").train.images
    assert not isinstance(held, np.memmap)
    assert np.array_equal(held, data.train.images)
    assert "decoding" not in caplog.text


def test_a_split_that_is_normalised_once_is_so_without_a_cache_too(ask):
    ready = [make(ask(mode), "val", None) for mode in ("disk", "off")]
    assert not ready[1].works_ahead
    assert torch.equal(ready[0].span(0, 3)[0], ready[1].span(0, 3)[0])


RECIPE = ("data=image_folder", "data.image_size=16", "model=mlp", "trainer.epochs=2", "data.batch_size=4",
          "data.augment.random_resized_crop=true", "hardware.threads=1")  # fmt: skip


@pytest.mark.parametrize(
    "recipe",
    [
        ("trainer.accumulation_steps=2", "trainer.clip_norm=1"),
        (
            "trainer=dp",
            "privacy.unsafe_noise_seed=1",
            "privacy.grad_sample=ghost",
            "privacy.augmentation_multiplicity=2",
        ),
    ],
    ids=["accumulated", "dp"],
)
def test_a_run_ends_with_the_same_bits_and_no_thread(train, photos, recipe):
    ends = []
    for mode in ("disk", "off"):
        run_dir = train(*RECIPE, *recipe, f"data.root={photos}", f"data.cache={mode}")
        ends.append(load_checkpoint(run_dir / "checkpoints" / "last").weights)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("runner-decode")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_without_a_cache_names_the_file_that_cannot_be_decoded(train, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "bad")
    whole = encode(noise((40, 40)), "JPEG")
    put(tmp_path / "bad" / "dog" / "07.jpg", whole[: len(whole) // 2])
    recipe = (*RECIPE, f"data.root={tmp_path / 'bad'}", "data.cache=off", "data.val_fraction=0", "data.test_fraction=0")
    with pytest.raises(RunError, match=r"data\.root: dog/07\.jpg cannot be decoded .*data\.on_bad_file=skip"):
        train(*recipe)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("runner-decode")]


def test_without_a_cache_unreadable_files_are_looked_for_once(ask, photos, tmp_path, caplog):
    shutil.copytree(photos, tmp_path / "bad")
    put(tmp_path / "bad" / "dog" / "07.jpg", b"no image")
    caplog.set_level(logging.INFO)
    without = [ask("off", tmp_path / "bad", on_bad_file="skip") for _ in range(2)]
    assert sum("decoding 40 images" in record.message for record in caplog.records) == 1
    stored = ask("disk", tmp_path / "bad", on_bad_file="skip")
    for data in without:
        assert data.skipped == (SkippedFile("dog/07.jpg", f"none of the formats {', '.join(FORMATS)}"),)
        assert (data.fingerprint, data.train.names) == (stored.fingerprint, stored.train.names)


# What auto takes


@pytest.mark.parametrize(
    ("disk", "memory", "processes", "mode", "why"),
    [
        (10**9, 0, 1, "disk", "954 MiB are free in"),
        (10**4, 10**9, 1, "memory", "in memory, decoded anew in each run"),
        (10**4, 10**5, 1, "off", "no cache, decoded in the background"),
        (10**4, 2 * 10**5, 2, "off", "no cache"),
        (10**4, 2 * 10**5, 1, "memory", "in memory"),
        (10**4, None, 1, "off", "only 0 MiB are free in"),
    ],
)
def test_auto_takes_the_first_that_has_room_and_says_why(
    ask, tmp_path, monkeypatch, caplog, disk, memory, processes, mode, why
):
    # 40 images of 16 and 18 pixels, three channels: 69,600 bytes
    monkeypatch.setattr(cache_policy.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, disk))
    monkeypatch.setattr(cache_policy, "available_memory", lambda: memory)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    caplog.set_level(logging.INFO)
    images = ask("auto").train.images
    assert (mode == "off") == (not isinstance(images, np.ndarray))
    assert (mode == "disk") == isinstance(images, np.memmap)
    (line,) = [record.message for record in caplog.records if record.message.startswith("data.cache=auto")]
    assert "decoded images take 0 MiB" in line
    assert why in line


def test_available_memory_is_a_number_of_bytes():
    assert 2**20 < cache_policy.available_memory() < 2**50


# Working ahead


def test_what_was_announced_is_taken_in_order_and_what_was_not_is_made_at_once():
    made = []

    def fill(rows, out):
        made.append(rows.tolist())
        out.copy_(rows.view(-1, 1, 1, 1).expand_as(out))

    ahead = Prefetcher(fill, (1, 1, 1), threads=1, task=2, pinned=False)
    batches = [torch.tensor(rows) for rows in ([1, 2, 3], [4, 5], [6, 7], [8])]
    for batch in batches:
        ahead.announce(batch)
    assert ahead.take(batches[0]).flatten().tolist() == [1, 2, 3]
    # memory ran out: half of the second batch, and its other half, were never announced
    assert ahead.take(torch.tensor([4])).flatten().tolist() == [4]
    assert ahead.take(torch.tensor([5])).flatten().tolist() == [5]
    # the third was never asked for
    assert ahead.take(batches[3]).flatten().tolist() == [8]
    assert not ahead._announced
    ahead.close()
    assert made[:5] == [[1, 2], [3], [4, 5], [6, 7], [8]]
