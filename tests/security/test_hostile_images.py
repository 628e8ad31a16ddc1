"""Images from strangers: only the formats that are named are opened, within one budget of memory for all threads."""

import ast
import contextlib
import io
import os
import threading
import time
import zlib

import numpy as np
import pytest
from hostile_images import EPS, avif_that_lies, chunk, encode, icon, others, png, tiff_of_one_tile
from PIL import EpsImagePlugin, Image

from runner.config.schema import DataConfig
from runner.data.cache import image_store
from runner.data.decoding import decode, memory_budget
from runner.data.decoding.decode import FORMATS, LARGEST_PIXELS, OPENED, BadImageError, read_image
from runner.data.decoding.memory_budget import DecodingMemory
from runner.data.folders import content_hash
from runner.data.image_folder import SUFFIXES
from runner.data.open import open_data
from runner.errors import RequestError
from tests.conftest import ROOT


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A ``gs`` that leaves a file behind when it is called; gives that file."""
    program, trace = tmp_path / "bin" / "gs", tmp_path / "ghostscript was here"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n: > '{trace}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return trace


def folder(root, raw, name="evil.jpg"):
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        (root / label / "0.png").write_bytes(encode(Image.new("L", (9, 9)), "PNG"))
    (root / "cat" / name).write_bytes(raw)
    return root


def ask(root, tmp_path, **keys):
    source = "runner.data.image_folder.load_image_folder"
    fixed = {"target": source, "name": "x", "root": str(root), "image_size": 8, "cache_dir": str(tmp_path / "cache")}
    return open_data(DataConfig(**fixed | {"val_fraction": 0.0, "test_fraction": 0.0, "cache": "memory"} | keys))


def refusal(root, tmp_path, **keys):
    with pytest.raises(RequestError) as refused:
        ask(root, tmp_path, **keys)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# The formats


def test_a_postscript_file_called_jpg_does_not_reach_ghostscript(tmp_path, ghostscript):
    root = folder(tmp_path / "photos", EPS)
    assert refusal(root, tmp_path).startswith(
        "data.root: got cat/evil.jpg (cannot be decoded: none of the formats JPEG"
    )
    assert not ghostscript.exists()


def test_without_the_list_of_formats_ghostscript_is_called(tmp_path, ghostscript, monkeypatch):
    monkeypatch.setattr(decode, "FORMATS", None)
    refusal(folder(tmp_path / "photos", EPS), tmp_path)  # our gs writes no image
    assert ghostscript.exists()


@pytest.mark.parametrize("name", others())
def test_what_pillow_knows_and_nobody_needs_is_not_taken(name, monkeypatch):
    raw = others()[name]
    with pytest.raises(BadImageError, match="none of the formats"):
        read_image(raw, shortest=None)
    monkeypatch.setattr(decode, "FORMATS", None)
    if name not in ("EPS", "FITS"):  # these two fail later, in their decoders
        Image.open(io.BytesIO(raw))


def test_every_format_of_the_list_is_taken_under_each_of_its_suffixes():
    Image.init()
    known = {suffix: form for suffix, form in Image.EXTENSION.items() if suffix in SUFFIXES}
    assert set(known) == SUFFIXES
    assert set(known.values()) <= set(OPENED)
    pattern = Image.new("RGB", (32, 32), (200, 30, 30))
    for form in FORMATS:
        assert read_image(encode(pattern, form), shortest=None).size == (32, 32)


def test_torchvisions_own_readers_take_the_same_formats(tmp_path, ghostscript):
    (tmp_path / "set").mkdir()
    folder(tmp_path / "set" / "eurosat" / "2750", EPS)
    keys = {"target": "runner.data.torchvision_sets.load_torchvision"}
    options = {"dataset": "EuroSAT", "files": ["eurosat"], "splits": {"train": {}}}
    assert "none of the formats" in refusal(tmp_path / "set", tmp_path, **keys, options=options)
    assert not ghostscript.exists()


def test_a_picture_that_the_caller_opened_as_something_else_is_not_decoded(ghostscript, tmp_path):
    from runner.inference.preprocessing import to_pixels

    path = tmp_path / "evil.eps"
    path.write_bytes(EPS)
    with Image.open(path) as picture, pytest.raises(RequestError, match="a picture in the format EPS, expected one of"):
        to_pixels(picture, size=8, channels=1)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(RequestError, match="not an ordinary file"):
        to_pixels(tmp_path / "pipe.png", size=8, channels=1)
    assert not ghostscript.exists()


def test_one_function_opens_images():
    """No module but ``decode`` calls the openers of Pillow, matplotlib or torchvision."""
    openers = {"imread", "read_image", "decode_image", "default_loader", "pil_loader"}
    found = set()
    for path in (ROOT / "runner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and (
                node.attr in openers or (node.attr == "open" and ast.unparse(node.value).endswith("Image"))
            ):
                found.add(path.relative_to(ROOT).as_posix())
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("torchvision", "matplotlib"):
                assert not openers & {name.name for name in node.names}, path
    assert found == {"runner/data/decoding/decode.py"}


# Memory


@pytest.mark.parametrize("extra", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_chunks_that_unpack_to_a_hundred_megabytes_are_refused(extra):
    bomb = zlib.compress(bytes(100_000_000), 9)
    head = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[extra]
    with pytest.raises(BadImageError):
        read_image(png((8, 8), chunk(extra, head + bomb), pixels=bytes(72)), shortest=None)


@pytest.mark.parametrize("size", [(9500, 9500), (LARGEST_PIXELS + 1, 1)])
def test_more_pixels_than_the_limit_are_refused_by_the_header(size, monkeypatch):
    with pytest.raises(BadImageError, match="more than 89 million pixels"):
        read_image(png(size), shortest=8)
    monkeypatch.setattr(decode, "LARGEST_PIXELS", 10**9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # without the limits, the decoder runs
    with pytest.raises(BadImageError, match=r"truncated|incomplete|broken|not enough"):
        read_image(png(size, colour=0), shortest=8)


def taken(raw, monkeypatch):
    """Bytes of room that decoding took."""
    room, found = DecodingMemory(), []
    monkeypatch.setattr(room, "take", found.append)
    monkeypatch.setattr(decode, "ROOM", room)
    with contextlib.suppress(BadImageError):
        read_image(raw, shortest=4)
    return sum(found)


def test_room_is_taken_for_what_is_decoded_and_not_for_what_a_header_says(monkeypatch):
    grey = Image.new("L", (300, 200))
    assert taken(encode(grey, "PNG"), monkeypatch) == 2 * 300 * 200
    assert taken(encode(grey.convert("RGB"), "PNG"), monkeypatch) == 8 * 300 * 200
    draft = taken(encode(grey.convert("RGB"), "JPEG"), monkeypatch)
    assert draft == 8 * 38 * 25
    # All coefficients of a progressive one are held.
    assert taken(encode(grey.convert("RGB"), "JPEG", progressive=True), monkeypatch) == draft + 6 * 300 * 200
    assert taken(tiff_of_one_tile(16, 5000), monkeypatch) >= 5000**2
    whole = memory_budget.ROOM_BYTES
    assert taken(icon(png((3000, 3000), pixels=b"")), monkeypatch) >= whole
    assert taken(avif_that_lies((64, 64), 16), monkeypatch) >= whole


def held_at_once(room, monkeypatch, tmp_path, name):
    """Most bytes of pixels that eight threads hold while they decode a folder of ten pictures."""
    root = tmp_path / name
    for index in range(10):
        path = root / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image.new("RGB", (500, 500)), "PNG"))
    now, most, lock = 0, 0, threading.Lock()

    def slow_fit(image, *, size, channels, interpolation):
        nonlocal now, most
        with lock:
            now += 8 * image.width * image.height
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 8 * image.width * image.height
        return np.zeros((size, size, channels), np.uint8)

    for module in (decode, image_store, content_hash):
        monkeypatch.setattr(module, "ROOM", room)
    monkeypatch.setattr(image_store, "TASK", 1)
    monkeypatch.setattr(image_store, "cores", lambda: 8)
    monkeypatch.setattr(image_store, "fit", slow_fit)
    ask(root, tmp_path)
    return most


def test_all_threads_together_hold_no_more_than_the_room(tmp_path, monkeypatch):
    one = 8 * 500 * 500
    assert held_at_once(DecodingMemory(2 * one), monkeypatch, tmp_path, "bounded") <= 2 * one
    assert held_at_once(DecodingMemory(one // 2), monkeypatch, tmp_path, "alone") == one
    assert held_at_once(DecodingMemory(100 * one), monkeypatch, tmp_path, "control") > 2 * one


def test_large_files_are_read_one_at_a_time(monkeypatch):
    room, order, large = DecodingMemory(), [], memory_budget.LARGE_FILE_BYTES + 1

    def read(name):
        with room.one_image():
            room.take_file(large)
            order.append(name)
            time.sleep(0.01)
            order.append(name)

    threads = [threading.Thread(target=read, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order[::2] == order[1::2]
    assert len(order) == 6


def test_a_failed_image_gives_its_room_back():
    room = DecodingMemory(10)

    def fail():
        with room.one_image():
            room.take_file(memory_budget.LARGE_FILE_BYTES + 1)
            room.take(100)
            room.take(100)
            raise ValueError("bad")

    for _ in range(3):
        with pytest.raises(ValueError, match="bad"):
            fail()
