"""Images that a table lists: a CSV file with a path and a label in each row, and maybe the split."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runner.config.schema import DataConfig
from runner.config.words.expand_user import expand_user
from runner.data.cache.image_store import StoreLayout, bad_file
from runner.data.cache.listed_data import Tell
from runner.data.folders.listing import Listing, list_files
from runner.data.folders.split_names import SPLITS, roles_of
from runner.data.images import Decoded
from runner.data.listed_images import open_listed
from runner.errors import RequestError, nearest

# Part of every fingerprint; a new number whenever decoding changes a pixel of ordinary images.
STORED_AS = "manifest 1"

KEY = "data.manifest"
COLUMNS = ("path", "label", "split")
_EXPECTED = "a CSV file with the columns path and label, and maybe split"


class Row(NamedTuple):
    """One image."""

    line: int
    """Of the file, from 1."""
    path: str
    """Below the root, with forward slashes."""
    label: str
    split: str
    """``train``, ``val`` or ``test``."""


def load_manifest(config: DataConfig, *, manifest: str | None = None, tell: Tell | None = None) -> Decoded:
    """Read the images that the CSV file ``manifest`` lists.

    Its first line names the columns: ``path`` (below ``data.root``, which is the folder of the file if it is null),
    ``label`` (the name of the class, or its number) and optionally ``split`` (``train``, ``val``, ``test``, or another
    usual name of these).  Further columns are not used.  Classes are sorted, by number where all are whole numbers.

    Args:
        config: The data group.
        manifest: Path of the file.
        tell: Called once with the layout, before an image is opened, and again with the contents' hash too.

    Raises:
        RequestError: The file is missing, is no such table, or lists what is not there; see ``open_listed``.
        RunError: A file changed while it was being read.
    """
    if not manifest:
        raise RequestError(KEY, "null", _EXPECTED)
    table = Path(expand_user(manifest))
    if not table.is_file():
        raise RequestError(KEY, f"{manifest} ({'a folder' if table.is_dir() else 'does not exist'})", _EXPECTED)
    root = table.parent if config.root is None else Path(expand_user(config.root))
    rows = sorted(_read(table, root.resolve()), key=lambda row: (SPLITS.index(row.split), row.path))
    _refuse_missing(table, root, rows)

    def listed() -> Listing:
        below = tuple(row.path for row in rows)
        return list_files(root, below=below, wanted=lambda name: True, follow_links=config.follow_links)

    listing = listed()
    if listing.bad and config.on_bad_file == "refuse":
        name, reason = listing.bad[0]
        raise bad_file(name, reason, count=len(listing.bad), link=name in listing.links)
    left_out = {name for name, _ in listing.bad}
    kept = [row for row in rows if row.path not in left_out]
    layout = _lay_out(table, kept)
    choices = hashlib.sha256(repr([(row.path, row.label, row.split) for row in kept]).encode()).hexdigest()
    decoded = open_listed(
        config,
        listing,
        layout,
        reader=f"manifest {table.resolve()}",
        stored_as=STORED_AS,
        choices=(choices,),
        places=layout.splits,
        again=listed,
        tell=tell,
    )
    return replace(decoded, places=dict.fromkeys(layout.splits, table.name))


def _read(table: Path, root: Path) -> Iterator[Row]:
    """The rows of ``table``, each checked by itself."""
    seen: dict[str, int] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            names = {name.strip().lower(): name for name in reader.fieldnames or ()}
            for column in COLUMNS[:2]:
                if column not in names:
                    got = f"{table} (no column {column}, but {', '.join(names) or 'nothing'})"
                    raise RequestError(KEY, _short(got, 300), _EXPECTED, nearest=nearest(column, list(names)))
            roles: dict[str, str] = {}
            for found in reader:
                where = f"{table}, line {reader.line_num}"
                values = {column: (found[names[column]] or "").strip() for column in COLUMNS if column in names}
                if None in found or not values["label"] or not values["path"]:
                    raise RequestError(KEY, f"{where} (a row of another length, or an empty field)", _EXPECTED)
                split = values.get("split", "train")
                if split not in roles:
                    role = split if split in SPLITS else roles_of([split]).get(split)
                    if role is None:
                        got = f"{where} (split {_short(split) or 'empty'})"
                        raise RequestError(KEY, got, "train, val or test", nearest=nearest(split, SPLITS))
                    roles[split] = role
                path = _below(root, values["path"], where)
                if path in seen:
                    got = f"{where} ({_short(path)} again, after line {seen[path]})"
                    raise RequestError(KEY, got, "each image once")
                seen[path] = reader.line_num
                yield Row(reader.line_num, path, values["label"], roles[split])
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise RequestError(KEY, f"{table} ({error})", _EXPECTED) from error


def _below(root: Path, path: str, where: str) -> str:
    """``path`` below ``root``; it may be given in full."""
    whole = os.path.normpath(root / path)
    if "\0" in path or not Path(whole).is_relative_to(root) or whole == str(root):
        raise RequestError(KEY, f"{where} ({_short(path)!r} is not below {root})", "paths below data.root")
    return Path(whole).relative_to(root).as_posix()


def _refuse_missing(table: Path, root: Path, rows: list[Row]) -> None:
    missing = [row for row in rows if not os.path.lexists(root / row.path) or (root / row.path).is_dir()]
    if missing:
        first = min(missing)
        more = f", one of {len(missing)}" if len(missing) > 1 else ""
        got = f"{table}, line {first.line} (no file {_short(first.path)} in {root}{more})"
        raise RequestError(KEY, got, "files that exist; data.root is the folder that paths start from")


def _lay_out(table: Path, rows: list[Row]) -> StoreLayout:
    """Row, class and split of each image, which are sorted by split."""
    trained = {row.label for row in rows if row.split == "train"}
    numbers = all(label.isdecimal() for label in trained)
    classes = sorted(trained, key=lambda label: (int(label), label) if numbers else (0, label))
    if len(classes) < 2:
        got = f"{table} ({'one class' if classes else 'no image'} to train on{''.join(f', {one}' for one in classes)})"
        raise RequestError(KEY, got, "training images of two or more classes")
    number = {label: place for place, label in enumerate(classes)}
    for row in rows:
        if row.label not in number:
            got = f"{table}, line {row.line} (label {_short(row.label)} of {row.split}, which no training image has)"
            raise RequestError(KEY, got, "labels of the training images", nearest=nearest(row.label, classes))
    splits = {}
    for split in SPLITS:
        places = [place for place, row in enumerate(rows) if row.split == split]
        if places:
            splits[split] = (places[0], places[-1] + 1)
    return StoreLayout(
        labels=np.array([number[row.label] for row in rows], dtype=np.int64),
        classes=tuple(classes),
        names=tuple(row.path for row in rows),
        splits=splits,
    )


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
