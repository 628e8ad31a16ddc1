"""Warnings about splits: classes without images, images that repeat across splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runner.config.words.pluralize import pluralize
from runner.data.images import ImageSet

_CALLED = {"train": "training", "val": "validation", "test": "test"}
_SHOWN = 3


def notes_on_classes(
    classes: Sequence[str], train: ImageSet, val: ImageSet | None, test: ImageSet | None
) -> tuple[str, ...]:
    """A line for each split that has no image of some classes."""
    notes = []
    for split, images in (("train", train), ("val", val), ("test", test)):
        if images is None or not len(images):
            continue
        counts = np.bincount(images.labels, minlength=len(classes))
        if without := [classes[label] for label in np.flatnonzero(counts == 0).tolist()]:
            shown = ", ".join(without[:_SHOWN]) + (", ..." if len(without) > _SHOWN else "")
            notes.append(f"{pluralize(len(without), 'class')} without a {_CALLED[split]} image: {shown}")
    return tuple(notes)


def notes_on_repeats(
    repeats: Sequence[Sequence[str]],
    train: ImageSet,
    val: ImageSet | None,
    test: ImageSet | None,
) -> tuple[str, ...]:
    """Lines for images that stand in two splits, and for those that stand in two classes.

    Args:
        repeats: Names of equal files, two or more each.
        train: The split from which nothing should be repeated.
        val: Another split.
        test: Another split.
    """
    if not repeats:
        return ()
    wanted = {name for same in repeats for name in same}
    place: dict[str, tuple[str, int]] = {}
    for split, images in (("train", train), ("val", val), ("test", test)):
        if images is not None and images.names is not None:
            labels = images.labels.tolist()
            place |= {name: (split, labels[at]) for at, name in enumerate(images.names) if name in wanted}
    found = [[name for name in same if name in place] for same in repeats]
    notes = []
    for split, images, earlier in (("val", val, ("train",)), ("test", test, ("train", "val"))):
        for other in earlier:
            pairs = [
                (name, first)
                for same in found
                if (first := next((name for name in same if place[name][0] == other), None)) is not None
                for name in same
                if place[name][0] == split
            ]
            if pairs and images is not None:
                (name, first), whose = pairs[0], _CALLED[other]
                repeat = f"repeats a {whose} image" if len(pairs) == 1 else f"repeat {whose} images"
                total = pluralize(len(images), f"{_CALLED[split]} image")
                notes.append(f"{len(pairs):,} of {total} {repeat}, byte by byte: {name} is {first}")
    torn = [same for same in found if len({place[name][1] for name in same}) > 1]
    if torn:
        first = torn[0][0]
        other = next(name for name in torn[0] if place[name][1] != place[first][1])
        notes.append(f"{pluralize(len(torn), 'image')} in more than one class: {first} is {other}")
    return tuple(notes)
