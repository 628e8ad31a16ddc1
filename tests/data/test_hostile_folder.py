"""Folders of images that mean harm: what cannot be an image is refused by name, or skipped and counted, at once."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest
from image_files import class_folders, encode, noise, put
from PIL import Image

from runner.config.schema import DataConfig
from runner.data.open import open_data
from runner.errors import RequestError
from tests.conftest import ROOT

ORDINARY = 20


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *chunks):
    """A PNG file of a few bytes that claims any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


BOMB = zlib.compress(b"\0" * 100_000_000, 9)


def hostile(folder, outside):
    """Fill ``folder`` with files that are no images; returns their names."""
    put(folder / "huge.png", png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b"\0"))))
    put(folder / "bomb.png", png(50_000, 50_000, chunk(b"IDAT", BOMB)))
    put(folder / "text_bomb.png", png(8, 8, chunk(b"zTXt", b"a\0\0" + BOMB), chunk(b"IDAT", zlib.compress(b"\0" * 72))))
    put(folder / "nothing.png", b"")
    put(folder / "half.jpeg", encode(noise((64, 64)), "JPEG")[:700])
    put(folder / "program.gif", b"#!/bin/sh\necho harm\n")
    put(folder / "page.webp", b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>")
    put(folder / "postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder):  # the names of sockets must be short
        listener.bind("socket.png")
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "outside.png").symlink_to(put(outside / "secret.png", noise()))
    (folder / "gone.png").symlink_to(folder / "no such file.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "above.png").symlink_to("..")
    put(folder / "name\udcff.png", b"not UTF-8")
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def ask(tmp_path):
    def ask(root, **keys):
        fixed = {"target": "runner.data.image_folder.load_image_folder", "name": "photos", "root": str(root)}
        return open_data(DataConfig(**fixed | {"cache_dir": str(tmp_path / "cache")} | keys))

    return ask


def test_every_hostile_file_is_counted_when_skipped_and_named_when_refused(ask, tmp_path):
    root = class_folders(tmp_path / "photos")
    before = {path.name for path in (root / "cat").iterdir()}
    names = hostile(root / "cat", tmp_path) - before
    for _ in range(2):  # decoded, then out of the cache
        data = ask(root, on_bad_file="skip", image_size=8)
        assert {bad.file.removeprefix("cat/") for bad in data.skipped} == names
        assert all(bad.reason for bad in data.skipped)
        kept = sum(len(part) for part in (data.train, data.val, data.test) if part is not None)
        assert kept == ORDINARY
    for name in sorted(names):
        single = class_folders(tmp_path / "alone")
        (root / "cat" / name).rename(single / "cat" / name)
        with pytest.raises(RequestError) as refused:
            ask(single)
        assert str(refused.value).startswith(f"data.root: got cat/{name} (cannot be decoded: ")
        assert "\n" not in str(refused.value)
        (single / "cat" / name).unlink()


def test_a_wrong_suffix_is_no_harm_and_a_folder_called_like_an_image_is_a_folder(ask, tmp_path):
    root = class_folders(tmp_path / "photos")
    put(root / "cat" / "photo.png", encode(Image.new("RGB", (16, 16)), "JPEG"))
    put(root / "cat" / "folder.png" / "inner.png", noise())
    os.mkfifo(root / "cat" / "notes.txt")
    data = ask(root)
    assert sum(len(part) for part in (data.train, data.val, data.test) if part is not None) == ORDINARY + 2


def test_a_run_with_skipped_files_says_how_many_and_keeps_their_names(train, tmp_path, capfd, caplog):
    root = class_folders(tmp_path / "photos")
    put(root / "cat" / "name\udcff.png", b"not UTF-8")
    run_dir = train("data=image_folder", f"data.root={root}", "data.on_bad_file=skip", "model=linear",
                    "trainer.steps=1", "data.image_size=8")  # fmt: skip
    told = "unreadable files skipped: 1, the first is cat/name\\udcff.png"
    assert told.encode() in (run_dir / "run.json").read_bytes()
    assert told in caplog.text
    assert told in capfd.readouterr().err


UNREADABLE = """
import os, sys
from runner.errors import RequestError
from runner.config.schema import DataConfig
from runner.data.open import open_data
source = "runner.data.image_folder.load_image_folder"
# what this imports, an interpreter in the folder of root could not
open_data(DataConfig(target=source, root=sys.argv[2], cache_dir=f"{sys.argv[1]} of root"))
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for root in sys.argv[3:]:
    try:
        open_data(DataConfig(target=source, root=root, cache_dir=sys.argv[1]))
    except RequestError as error:
        print(error)
"""


def test_what_may_not_be_read_is_one_line():
    with tempfile.TemporaryDirectory() as place:  # others may not enter the folders of pytest
        refuse_as_somebody_else(Path(place))


def refuse_as_somebody_else(place):
    place.chmod(0o755)
    good, file, folder, top = (class_folders(place / name) for name in ("good", "file", "folder", "top"))
    (file / "cat" / "000.png").chmod(0)
    (folder / "cat").chmod(0)
    top.chmod(0)
    cache = place / "cache"
    cache.mkdir()
    if os.getuid() == 0:
        os.chown(cache, 65534, 65534)
    command = [sys.executable, "-c", UNREADABLE, cache, good, file, folder, top]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    assert all(line.startswith("data.root: got ") and "Permission denied" in line for line in lines), lines
