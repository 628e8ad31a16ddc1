"""Images in folders named by their class: alone, or in ``train/``, ``val/`` and ``test/``."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from runner.config.errors import RequestError, RunError
from runner.config.schema import DataConfig
from runner.data.cache import Cache
from runner.data.contents import hash_files, read_listed
from runner.data.decode import BadImageError, read_image
from runner.data.foreseen import Tell
from runner.data.holding import Source, hold
from runner.data.image_store import Layout, bad_file, pixel_format
from runner.data.images import Decoded, SkippedFile
from runner.data.listing import Listing, list_files

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

# Part of every fingerprint; a new number whenever decoding changes a pixel.
STORED_AS = "image_folder 1"

# Suffixes, in any mix of capitals, by which a file is taken for an image; whether it is one, decoding shows.
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff",
    ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico",
))  # fmt: skip


def load_image_folder(config: DataConfig, *, tell: Tell | None = None) -> Decoded:
    """Read ``data.root``.

    A folder with ``train/`` and class folders in it has the same in ``val/`` and ``test/``, which may be missing.  Any
    other folder holds the class folders themselves.  Class folders may be nested; classes are sorted by
    name, and all splits must have the same.  Stored are grey images for ``data.channels=1`` and RGB otherwise.

    Args:
        config: The data group.
        tell: Called once with the layout, before a file is opened, and again with the contents' hash too.

    Raises:
        RequestError: ``data.root`` is missing, is no folder, lacks images or classes, or holds unreadable files under
            ``data.on_bad_file=refuse``; ``data.image_size`` is null where sizes differ.
        RunError: A file changed while it was being read.
    """
    root = _existing_folder(config.root)
    skip_bad = config.on_bad_file == "skip"
    listing = _list_images(root)
    if listing.bad and not skip_bad:
        name, reason = listing.bad[0]
        raise bad_file(name, reason, count=len(listing.bad))
    layout, names = _lay_out(listing)
    if tell is not None:
        tell(layout, None)
    form = pixel_format(config, channels=3)
    cache = Cache(config.cache_dir)
    contents, without_names = hash_files(listing, cache, reader="image_folder")
    if tell is not None:
        tell(layout, contents)
    # The margin is left out of the identity: with and without augmentation, it is the same data.
    fingerprint = hashlib.sha256(repr((STORED_AS, contents, form.size, form.channels)).encode()).hexdigest()
    key = hashlib.sha256(f"{fingerprint} {form.margin}".encode()).hexdigest()
    shortest = None if form.size is None else max(form.size, form.margin or 0)

    def read(row: int) -> Image.Image:
        try:
            raw = read_listed(listing, names[row])
        except OSError as error:
            raise BadImageError(error.strerror or str(error)) from error
        return read_image(raw, shortest=shortest)

    def confirm() -> None:
        if _list_images(root) != listing:
            raise RunError(f"data.root: files below {root} changed while they were being read")

    decoded = hold(
        config,
        cache,
        lambda: Source(layout=layout, read=read, form=form),
        key=key,
        fingerprint=fingerprint,
        origin=contents,
        confirm=confirm,
    )
    return replace(
        decoded, contents=without_names, skipped=tuple(SkippedFile(*bad) for bad in listing.bad) + decoded.skipped
    )


def _existing_folder(root: str | None) -> Path:
    expected = "a folder with train/ and val/, or with one folder for each class"
    if root is None:
        raise RequestError("data.root", "null", expected)
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise RequestError("data.root", f"{root} ({'not a folder' if folder.exists() else 'does not exist'})", expected)
    return folder


def _split_folders(root: Path) -> tuple[str, ...]:
    """Names of the split folders of ``root``; none where it holds the class folders, one of which may be ``train``."""
    train = root / "train"
    if not train.is_dir() or not any(_is_class_folder(path) for path in train.iterdir()):
        return ()
    return tuple(split for split in SPLITS if (root / split).is_dir())


def _list_images(root: Path) -> Listing:
    try:
        return list_files(
            root,
            below=_split_folders(root) or ("",),
            wanted=lambda name: name[name.rfind(".") :].lower() in SUFFIXES,
        )
    except OSError as error:
        raise RequestError("data.root", f"{error.filename} ({error.strerror})", "a folder that can be read") from error


def _lay_out(listing: Listing) -> tuple[Layout, tuple[str, ...]]:
    """Read splits, classes and labels off the paths; also gives the path of each row."""
    splits = _split_folders(listing.root)
    labels: list[int] = []
    names: list[str] = []
    ranges: dict[str, tuple[int, int]] = {}
    unused = list(listing.ignored)
    classes: tuple[str, ...] = ()
    for split in splits or ("train",):
        folder = listing.root / split if splits else listing.root
        found = tuple(sorted(path.name for path in folder.iterdir() if _is_class_folder(path)))
        if split == "train":
            classes = found
            _refuse_few_classes(listing.root, folder, classes)
        elif found != classes:
            odd = sorted(set(found) ^ set(classes))
            raise RequestError("data.root", f"{split}/ and train/ that differ in {', '.join(odd[:3])}", "equal classes")
        first, number, depth = len(names), {name: i for i, name in enumerate(classes)}, 1 if splits else 0
        for file in listing.files:
            parts = file.path.split("/")
            if splits and parts[0] != split:
                continue
            if len(parts) < depth + 2:
                unused.append(file.path)
                continue
            names.append(file.path)
            labels.append(number[parts[depth]])
        empty = sorted(set(range(len(classes))) - set(labels[first:]))
        if empty:
            raise RequestError("data.root", f"{folder / classes[empty[0]]} (no images)", "images in every class folder")
        ranges[split] = (first, len(names))
    if unused:
        log.warning("%d files below %s are not used, for example %s", len(unused), listing.root, min(unused))
    beside = sorted({path.name for path in listing.root.iterdir() if _is_class_folder(path)} - set(splits))
    if splits and beside:
        log.warning("%s: only %s are used, not %s", listing.root, ", ".join(splits), ", ".join(beside))
    layout = Layout(labels=np.array(labels, dtype=np.int64), classes=classes, names=tuple(names), splits=ranges)
    return layout, tuple(names)


def _is_class_folder(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_dir() and not path.is_symlink()


def _refuse_few_classes(root: Path, folder: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        held = f"one class folder, {classes[0]}" if classes else "no class folders"
        inner = folder / classes[0] if classes else folder
        better = str(inner) if any(_is_class_folder(path) for path in inner.iterdir()) and classes else None
        raise RequestError(
            "data.root", f"{folder} ({held})", "a folder for each of two or more classes", nearest=better
        )
