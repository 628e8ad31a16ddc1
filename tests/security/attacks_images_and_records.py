"""Images, caches, weights, checkpoints and records that a stranger has made."""

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import EpsImagePlugin, Image

from runner.api import composed_request
from runner.config.schema import DataConfig
from runner.data.cache import checked_map
from runner.data.cache import folder_cache as cache
from runner.data.decoding import decode
from runner.data.open import open_data
from runner.disk import ownership
from runner.inference.preprocessing import to_pixels
from runner.models import weights
from runner.models.weights import read_weights
from runner.records import metrics
from runner.records.metrics import read_metrics
from runner.training.checkpointing import checkpoint
from runner.training.checkpointing.checkpoint import load_checkpoint, save_checkpoint, seal
from tests.security.hostile_images import EPS, encode
from tests.security.stage import attack, guard

SOURCE = "runner.data.image_folder.load_image_folder"


def _photos(stage, **brought):
    for label in ("cat", "dog"):
        for number in range(2):
            pixels = np.random.default_rng(number).integers(1, 256, (64, 64, 3), dtype=np.uint8)
            stage.write(f"photos/{label}/{number}.png", encode(Image.fromarray(pixels), "PNG"))
    for name, content in brought.items():
        stage.write(f"photos/cat/{name}", content)


def _open(stage, **keys):
    fixed = {"target": SOURCE, "name": "x", "root": str(stage.folder / "photos"), "image_size": 64, "cache": "disk"}
    fixed |= {"cache_dir": str(stage.folder / "cache"), "val_fraction": 0.0, "test_fraction": 0.0}
    return open_data(DataConfig(**fixed | keys))


# Images: a format that starts another program


@guard("images")
def _every_format(patch):
    patch.setattr(decode, "FORMATS", None)
    patch.setattr("runner.inference.preprocessing.OPENED", ("EPS",))


def _ghostscript(stage):
    """The victim's ``gs``, which here leaves the marker."""
    stage.write("bin/gs", f"#!/bin/sh\n{stage.payload}\n").chmod(0o755)
    os.environ["PATH"] = f"{stage.folder / 'bin'}:{os.environ['PATH']}"
    EpsImagePlugin.gs_binary = None


def _with_ghostscript(stage, act):
    before = os.environ["PATH"]
    try:
        _ghostscript(stage)
        act()
    finally:
        os.environ["PATH"] = before


@attack("images", says="none of the formats JPEG")
def postscript_called_jpg_among_the_images_of_a_run(stage):
    _photos(stage, **{"evil.jpg": EPS})
    _with_ghostscript(stage, lambda: _open(stage))


@attack("images", says="none of the formats JPEG")
def postscript_called_png_where_nothing_is_cached(stage):
    _photos(stage, **{"evil.png": EPS})
    _with_ghostscript(stage, lambda: _open(stage, cache="off", on_bad_file="refuse").train.pixels(np.arange(5)))


@attack("images", says="none of the formats JPEG")
def postscript_given_to_a_loaded_model(stage):
    path = stage.write("evil.jpg", EPS)
    _with_ghostscript(stage, lambda: to_pixels(path, size=8, channels=1))


@attack("images", says="a picture in the format EPS")
def postscript_that_the_caller_has_opened(stage):
    path = stage.write("evil.eps", EPS)

    def give():
        with Image.open(path) as image:
            to_pixels(image, size=8, channels=1)

    _with_ghostscript(stage, give)


# Caches: pixels that are not those of the user's files


@guard("cache")
def _believed(patch):
    patch.setattr(cache, "foreign", lambda path, besides=None: None)
    patch.setattr(ownership, "_refuse_others", lambda path, found: None)
    patch.setattr(checked_map.Blocks, "_is_whole", lambda self, block: True)


def _spoil(stage, *, first, sealed):
    """Zero the pixels in the cache from byte ``first`` on; ``sealed`` puts their right hashes beside them."""
    (images,) = (stage.folder / "cache").glob("*/images.npy")
    content = images.read_bytes()
    images.write_bytes(content[:first] + bytes(len(content) - first))
    if sealed:
        for name in ("manifest.json", "blocks.sha256"):
            (images.parent / name).unlink()
        cache._seal(images.parent)
    return images


def _use(stage):
    """What a run does with the images; an attack lands where it is given black ones."""
    for pixels in _open(stage).train.pixels(np.arange(4)):
        if not pixels.any():
            stage.marker.touch()


@attack("cache", says="have changed, from byte")
def a_large_file_that_was_zeroed(stage):
    _photos(stage)
    before, cache.AT_ONCE_BYTES = cache.AT_ONCE_BYTES, 0
    try:
        _open(stage)
        _spoil(stage, first=128, sealed=False)
        _use(stage)
    finally:
        cache.AT_ONCE_BYTES = before


@attack("cache", says="it belongs to another user")
def a_cache_of_somebody_else(stage):
    _photos(stage)
    _open(stage)
    _spoil(stage, first=128, sealed=True)
    real, os.geteuid = os.geteuid, lambda: 65534
    try:
        _use(stage)
    finally:
        os.geteuid = real


# Checkpoints and weights: a pickle where tensors belong


class _Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@guard("tensors")
def _any_pickle(patch):
    load = torch.load
    patch.setattr(torch, "load", lambda *args, **keys: load(*args, **keys | {"weights_only": False}))
    patch.setattr(weights, "load_file", lambda path: pickle.loads(Path(path).read_bytes()))
    patch.setattr(checkpoint, "load_tensors", lambda content: pickle.loads(content) if content[:1] == b"\x80" else {})
    patch.setattr(checkpoint, "_refuse_compressed", lambda content: None)


def _checkpoint(stage, name, content):
    """A checkpoint of which one file is the stranger's, with its right hash in a sealed manifest."""
    path = save_checkpoint(stage.folder / "checkpoints", step=1, best=1, identity="i", recipe={},
                           weights={"w": torch.zeros(1)}, state={"secret_key": None})  # fmt: skip
    (path / name).write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_bytes())
    del manifest["digest"]
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (path / "manifest.json").write_bytes(seal(manifest))
    return path


def _saved(stage):
    torch.save({"secret_key": None, "x": _Runs(stage.payload)}, stage.folder / "saved")
    return (stage.folder / "saved").read_bytes()


@attack("tensors", says="something other than tensors and plain values")
def code_in_the_state_of_a_checkpoint(stage):
    load_checkpoint(_checkpoint(stage, "state.pt", _saved(stage)))


@attack("tensors", says="something other than tensors and plain values")
def code_in_the_weights_of_a_checkpoint(stage):
    load_checkpoint(_checkpoint(stage, "model.safetensors", pickle.dumps(_Runs(stage.payload))))


@attack("tensors", says="model.weights")
def code_in_starting_weights(stage):
    read_weights(str(stage.write("start.safetensors", pickle.dumps(_Runs(stage.payload)))))


# Links


@guard("links")
def _followed(patch):
    patch.setattr(composed_request, "outward_link", lambda folder: None)


def _plant(stage, name):
    """A link in the folder of a run that the victim goes on with; the file behind it is no part of that folder."""
    precious = stage.write("elsewhere/precious", "precious\n")
    planted = stage.folder / "run" / name
    planted.parent.mkdir(parents=True)
    planted.symlink_to(precious)
    try:
        stage.main("data.limit=60", "model=linear", "trainer.steps=1", "tracker=none", "hydra.run.dir=run")
    finally:
        if precious.read_text() != "precious\n":
            stage.marker.touch()


@attack("links", says="a link that leads out of")
def a_list_of_overrides_that_is_a_link(stage):
    _plant(stage, ".hydra/overrides.yaml")


@attack("links", says="a link that leads out of")
def a_configuration_that_is_a_link(stage):
    _plant(stage, ".hydra/config.yaml")


# Records


@guard("records")
def _any_json(patch):
    patch.setattr(metrics, "parse_json", json.loads)
    patch.setattr(metrics, "_FIGURES", set())
    patch.setattr(metrics, "LARGEST_LINE", sys.maxsize)


def _read(stage, line):
    """An attack lands where a value that no run writes reaches what computes with it."""
    path = stage.write("metrics.jsonl", line + b"\n")
    read_metrics(path)
    stage.marker.touch()


@attack("records", says="NaN")
def a_loss_that_is_no_number(stage):
    _read(stage, b'{"step": 1, "epoch": 1, "kind": "train", "loss": NaN}')


@attack("records", says="a number of")
def a_step_beyond_every_counter(stage):
    _read(stage, b'{"step": %s, "epoch": 1, "kind": "train"}' % (b"9" * 400))


@attack("records", says="no number as its seconds")
def a_time_that_is_a_list(stage):
    _read(stage, b'{"step": 1, "epoch": 1, "kind": "train", "seconds": [1]}')


@attack("records", says="more than 1,048,576 bytes")
def a_line_of_eight_megabytes(stage):
    _read(stage, b'{"step": 1, "epoch": 1, "kind": "train", "loss": 1, "x": "%s"}' % (b"x" * 2**23))
