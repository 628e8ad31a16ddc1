"""Images in folders named by their class: alone, or in ``train/``, ``val/`` and ``test/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runner.config.schema import DataConfig
from runner.config.words.expand_user import expand_user
from runner.data.cache.image_store import bad_file
from runner.data.cache.listed_data import Tell
from runner.data.folders.arrangement import Arrangement, arrange
from runner.data.folders.folder_layout import lay_out
from runner.data.images import Decoded
from runner.data.listed_images import open_listed
from runner.errors import RequestError

# Part of every fingerprint; a new number whenever decoding changes a pixel of ordinary images.
STORED_AS = "image_folder 1"

# Suffixes, in any mix of capitals, by which a file is taken for an image; whether it is one, decoding shows.
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff",
    ".jp2", ".j2k", ".jpx", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico",
))  # fmt: skip


def load_image_folder(
    config: DataConfig, *, splits: Mapping[str, str] | None = None, tell: Tell | None = None
) -> Decoded:
    """Read ``data.root``.

    A folder with a folder for training and class folders in it has the same for validation and test, which may be
    missing; each may have any usual name (``runner.data.folders.split_names``).  Any other folder holds the class
    folders themselves.  Class folders may be nested; classes are sorted by name, and all splits must have the same.
    Stored are grey images for ``data.channels=1`` and RGB otherwise.

    Args:
        config: The data group.
        splits: The folder below the root of each of ``train``, ``val`` and ``test``, where their names do not tell;
            empty where every folder is a class.
        tell: Called once with the layout, before a file is opened, and again with the contents' hash too.

    Raises:
        RequestError: ``data.root`` is missing, is no folder, lacks images or classes, looks like splits that cannot be
            told apart, or holds unreadable files under ``data.on_bad_file=refuse``; ``data.image_size`` is null where
            sizes differ.
        RunError: A file changed while it was being read.
    """
    arranged = _arrange(_existing_folder(config.root), splits, follow_links=config.follow_links)
    skip_bad = config.on_bad_file == "skip"
    listing = arranged.listing
    if listing.bad and not skip_bad:
        name, reason = listing.bad[0]
        raise bad_file(name, reason, count=len(listing.bad), link=name in listing.links)
    layout, notes = lay_out(arranged)
    decoded = open_listed(
        config,
        listing,
        layout,
        reader="image_folder",
        stored_as=STORED_AS,
        choices=() if splits is None else (sorted(splits.items()),),
        places=arranged.splits,
        again=lambda: arranged.again(is_image),
        tell=tell,
    )
    return replace(
        decoded,
        places=_places(arranged, Path(expand_user(str(config.root)))),
        notes=(*arranged.notes, *notes, *decoded.notes),
    )


def _existing_folder(root: str | None) -> Path:
    expected = "a folder with train/ and val/, or with one folder for each class"
    if root is None:
        raise RequestError("data.root", "null", expected)
    folder = Path(expand_user(root))
    if not folder.is_dir():
        raise RequestError("data.root", f"{root} ({'not a folder' if folder.exists() else 'does not exist'})", expected)
    return folder


def is_image(name: str) -> bool:
    """Whether a file is taken for an image by its name."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def _arrange(root: Path, splits: Mapping[str, str] | None, *, follow_links: bool) -> Arrangement:
    try:
        return arrange(root, wanted=is_image, splits=splits, follow_links=follow_links)
    except OSError as error:
        raise RequestError("data.root", f"{error.filename} ({error.strerror})", "a folder that can be read") from error


def _places(arranged: Arrangement, root: Path) -> dict[str, str]:
    """For people: which folder below ``root``, as typed, each split is."""
    inside = arranged.root.relative_to(root.resolve())
    return {split: f"{(inside / folder).as_posix()}/" for split, folder in arranged.splits.items() if folder}
