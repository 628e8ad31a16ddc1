"""Classes and labels of images by the folders in which they lie."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import numpy as np

from runner.config.words.pluralize import pluralize
from runner.data.cache.image_store import StoreLayout
from runner.data.decoding.undecodable import note_undecodable
from runner.data.folders.arrangement import Arrangement
from runner.data.folders.listing import Listing, folders_of
from runner.errors import RequestError

log = logging.getLogger(__name__)

_SHOWN = 3


def same_name(name: str) -> str:
    """``name`` in one of the ways in which Unicode can write it (NFC): macOS takes letters and accents apart."""
    return unicodedata.normalize("NFC", name)


def lay_out(arranged: Arrangement) -> tuple[StoreLayout, tuple[str, ...]]:
    """The row of each image, its class and its split; also gives what the user should know was left out.

    A class is called as its training folder is.

    Raises:
        RequestError: there are no two classes, one is without an image, or splits have different classes.
    """
    root, listing = arranged.root, arranged.listing
    labels: list[int] = []
    names: list[str] = []
    ranges: dict[str, tuple[int, int]] = {}
    stray: list[str] = []
    classes: tuple[str, ...] = ()
    number: dict[str, int] = {}
    for split, place in arranged.splits.items():
        start = f"{place}/" if place else ""
        found = folders_of(root / place, links=arranged.follow_links)
        if split == "train":
            classes = tuple(found)
            number = {same_name(name): label for label, name in enumerate(classes)}
            _refuse_few_classes(arranged, root / place, classes)
        _refuse_twins(root / place, found)
        if odd := {same_name(name) for name in found} ^ set(number):
            got = f"{start} and {arranged.splits['train']}/ that differ in {', '.join(sorted(odd)[:_SHOWN])}"
            raise RequestError("data.root", got, "equal classes")
        first = len(names)
        for file in listing.files:
            if not file.path.startswith(start):
                continue
            name, _, rest = file.path.removeprefix(start).partition("/")
            if not rest:
                stray.append(file.path)
                continue
            names.append(file.path)
            labels.append(number[same_name(name)])
        held = set(labels[first:])
        for name in found:
            if number[same_name(name)] not in held:
                got = f"{root / place / name} ({_why_none(listing, f'{start}{name}/')})"
                raise RequestError("data.root", got, "images in every class folder")
        ranges[split] = (first, len(names))
    notes = []
    if unused := (*listing.ignored, *stray):
        log.warning("%d files below %s are not used, for example %s", len(unused), root, min(unused))
    if stray:
        notes.append(f"{pluralize(len(stray), 'image')} in no class folder left out, the first is {stray[0]}")
    if undecodable := note_undecodable(listing.ignored):
        notes.append(undecodable)
    layout = StoreLayout(labels=np.array(labels, dtype=np.int64), classes=classes, names=tuple(names), splits=ranges)
    return layout, tuple(notes)


def _refuse_few_classes(arranged: Arrangement, folder: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        held = f"one class folder, {classes[0]}" if classes else "no class folders"
        links = [path for path, _ in arranged.listing.bad if (arranged.root / path).is_dir()]
        if links:
            held += f" beside {pluralize(len(links), 'link')} to folders; data.follow_links=true follows them"
        inner = folder / classes[0] if classes else folder
        better = str(inner) if classes and not links and folders_of(inner) else None
        if better and len(arranged.splits) > 1:
            better = _one_level_down(arranged)
        raise RequestError(
            "data.root", f"{folder} ({held})", "a folder for each of two or more classes", nearest=better
        )


def _one_level_down(arranged: Arrangement) -> str | None:
    """What to type for splits whose classes lie in one folder more, ``train/x/cat`` say; None where they do not."""
    below = {split: folders_of(arranged.root / place) for split, place in arranged.splits.items()}
    if any(len(found) != 1 for found in below.values()):
        return None
    splits = ", ".join(f"{split}: {arranged.splits[split]}/{found[0]}" for split, found in below.items())
    return f"data.root={arranged.root} 'data.splits={{{splits}}}'"


def _refuse_twins(folder: Path, found: list[str]) -> None:
    seen: set[str] = set()
    for name in map(same_name, found):
        if name in seen:
            got = f"{folder} (two folders called {name}, with and without composed letters: Unicode NFC and NFD)"
            raise RequestError("data.root", got, "one folder for each class")
        seen.add(name)


def _why_none(listing: Listing, start: str) -> str:
    """Why no image is listed below ``start``."""
    bad = [(path, reason) for path, reason in listing.bad if path.startswith(start)]
    others = [path for path in listing.ignored if path.startswith(start)]
    if bad:
        return f"no image that can be read: {bad[0][0]}, {bad[0][1]}" + (f", and {len(bad) - 1} more" * (len(bad) > 1))
    if note := note_undecodable(others):
        return f"no images: {note}"
    return "no images" + (f", but {pluralize(len(others), 'other file')}, such as {others[0]}" if others else "")
