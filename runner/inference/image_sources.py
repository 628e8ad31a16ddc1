"""Sources of images for inference: a split of the run's own data, or a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runner.data.cache.folder_cache import Cache
from runner.data.cache.image_store import PixelFormat, StoreLayout
from runner.data.cache.listed_data import ListedData
from runner.data.cache.storage import ImageSource, hold
from runner.data.decoding.bit_depth import NoRangeError
from runner.data.decoding.decode import read_image
from runner.data.decoding.pixels import (
    DECODING,
    BadImageError,
    DecodedImage,
    changed_limit,
    changed_reading,
    reading_of,
)
from runner.data.decoding.undecodable import note_undecodable
from runner.data.folders.content_hash import hash_contents, read_listed
from runner.data.folders.folder_layout import same_name
from runner.data.folders.listing import list_files
from runner.data.image_folder import is_image
from runner.data.images import ImageData, ImageSet, SkippedFile
from runner.errors import RequestError
from runner.inference.class_folders import labels_by_folder
from runner.planning.planned_images import planned_images
from runner.records.run_file import RUN_FILE
from runner.training.run_data import open_planned_data

if TYPE_CHECKING:
    from runner.inference.finished_run import FinishedRun

STORED_AS = "prediction 1"

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Images to measure or predict."""

    name: str
    """``test``, ``val``, or the folder's."""
    images: ImageSet
    data: ImageData
    """What a ``Feed`` needs to know besides: size, channels and the constants of the normalisation."""
    labelled: bool
    """Whether ``images.labels`` are the truth."""
    skipped: tuple[SkippedFile, ...]
    """Files that could not be read."""
    notes: tuple[str, ...] = ()
    """What the user should know of them besides."""

    def file_name(self, position: int) -> str:
        """The file of an image below the data's root; where images come from no files, the split and the position."""
        names = self.images.names
        return f"{self.name}/{position}" if names is None else names[position]


def open_split(run: FinishedRun, split: str) -> Subject:
    """The run's own ``test`` or ``val`` split, as it was.

    Raises:
        RequestError: the run has no such split, or its data have changed.
    """
    data = open_own_data(run)
    images = {"test": data.test, "val": data.val}[split]
    if images is None:
        other = {"test": data.val, "val": data.test}[split]
        there = "images=FOLDER" if other is None else f"{'val' if split == 'test' else 'test'} or images=FOLDER"
        raise RequestError("split", f"{split}, which the run's data do not have", there)
    return Subject(name=split, images=images, data=data, labelled=True, skipped=data.skipped, notes=data.notes)


def open_own_data(run: FinishedRun) -> ImageData:
    """The data that the run was trained on.

    Raises:
        RequestError: they cannot be found, or have changed since.
    """
    with _origin_notes(run):
        data = open_planned_data(
            run.config, run.plan.semantic.data, on_listed=lambda listed: _refuse_changed(run, listed)
        )
    planned = run.plan.semantic.data
    for name in (
        "mean",
        "std",
        "channels",
        "image_size",
    ):  # a constant of the configuration that is no longer the run's
        if getattr(data, name) != getattr(planned, name):
            raise RequestError(
                "run",
                f"{run.folder} (its configuration has data.{name} {getattr(data, name)}, its {RUN_FILE}"
                f" {getattr(planned, name)})",
                "files of one run",
            )
    if data.fingerprint != planned.fingerprint:
        found = ListedData(classes=data.classes, examples=len(data.train), origin=data.origin)
        _refuse_changed(run, found)
        raise _changed(run, "the same files, taken apart in another way")
    return data


def _refuse_changed(run: FinishedRun, found: ListedData) -> None:
    """Say what is not as it was, as far as ``run.json`` tells.

    Raises:
        RequestError: something is not.
    """
    planned, classes = run.plan.semantic.data, run.plan.classes
    differences = []
    if found.classes is not None and found.classes != classes:
        now, then = {same_name(name) for name in found.classes}, {same_name(name) for name in classes}
        if now == then:
            differences.append("class folders whose names are written in another way (Unicode NFC and NFD)")
        for what, names in (("new", sorted(now - then)), ("missing", sorted(then - now))):
            if names:
                some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
                differences.append(f"{what} {'class' if len(names) == 1 else 'classes'}: {some}")
    if found.examples is not None and found.examples != planned.examples:
        differences.append(f"{planned.examples:,} training images then and {found.examples:,} now")
    if not differences and found.origin not in (None, planned.origin):
        same = "the same classes" if found.classes is not None else "the same name"
        count = "" if found.examples is None else "and as many training images "
        differences.append(f"{same} {count}with other files or contents")
    if differences:
        raise _changed(run, "; ".join(differences))


def _changed(run: FinishedRun, what: str) -> RequestError:
    where = run.config.data.root or run.config.data.name
    got = f"{run.folder} (the data, {where}, have changed since: {what})"
    return RequestError("run", got, "data as they were (data_root=FOLDER says where), or images=FOLDER")


def open_folder(run: FinishedRun, folder: Path) -> Subject:
    """The images below ``folder``, decoded as the run decodes its own; unreadable ones are left out and named.

    Where every image lies in a folder named like one of the model's classes, that is its label.

    Raises:
        RequestError: there is no readable image.
    """
    data = run.plan.semantic.data
    try:
        listing = list_files(folder, wanted=is_image, follow_links=run.config.data.follow_links)
    except OSError as error:
        raise RequestError("images", f"{error.filename} ({error.strerror})", "a folder that can be read") from error
    names = tuple(file.path for file in listing.files)
    if not names:
        why = note_undecodable(listing.ignored)
        raise RequestError(
            "images",
            f"{folder} (no images{'' if why is None else f': {why}'})",
            f"a folder with files such as {', '.join(_SOME_SUFFIXES)}",
        )
    labels, note = labels_by_folder(names, run.plan.classes, root=folder)
    known = np.zeros(len(names), dtype=np.int64) if labels is None else labels
    shortest = run.shortest

    reading = reading_of(run.config.data, channels=data.channels)

    def read(row: int) -> DecodedImage:
        try:
            raw = read_listed(listing, names[row])
        except OSError as error:
            raise BadImageError(error.strerror or str(error)) from error
        try:
            return read_image(raw, shortest=shortest, reading=reading)
        except NoRangeError as error:
            raise BadImageError(f"{error}, and the run has no data.value_range for them") from error

    with _origin_notes(run):
        cache = Cache(run.config.data.cache_dir, shared=run.config.data.cache_shared)
        contents = hash_contents(listing, cache, reader="prediction")
    asked = (
        STORED_AS,
        contents,
        data.image_size,
        data.channels,
        shortest,
        DECODING,
        data.interpolation,
        *changed_reading(run.config.data),
        *changed_limit(run.config.data),
    )
    key = hashlib.sha256(repr(asked).encode()).hexdigest()
    layout = StoreLayout(labels=known, classes=run.plan.classes, names=names, splits={"train": (0, len(names))})
    form = PixelFormat(
        size=data.image_size,
        margin=None,
        channels=data.channels,
        interpolation=data.interpolation,
    )
    with _origin_notes(run):
        config = dataclasses.replace(run.config.data, on_bad_file="skip")
        source = ImageSource(layout=layout, read=read, form=form)
        decoded = hold(config, cache, lambda: source, key=key, fingerprint=key, origin=contents)
    if not len(decoded.train):
        raise RequestError("images", f"{folder} (none of {len(names)} files can be read)", "readable images")
    # Labels of this model: the cache knows the pixels of these paths, maybe from another one.
    images = dataclasses.replace(decoded.train, labels=known[decoded.train.rows])
    skipped = tuple(SkippedFile(*bad) for bad in listing.bad) + decoded.skipped
    return Subject(
        name=folder.absolute().name,
        images=images,
        data=planned_images(run.plan, folder.name, images, skipped),
        labelled=labels is not None,
        skipped=skipped,
        notes=(*(line for line in (note, note_undecodable(listing.ignored)) if line is not None), *decoded.notes),
    )


@contextlib.contextmanager
def _origin_notes(run: FinishedRun) -> Iterator[None]:
    """Refuse data that are gone, and a cache that cannot be written, in words that help where no key of it is typed."""
    try:
        yield
    except RequestError as error:
        if error.key == "data.root":
            expected = "data_root=FOLDER with the images of the run, or images=FOLDER with others"
            raise RequestError("run", f"{run.folder} (its data.root is {error.got})", expected) from error
        if error.key != "data.cache_dir":
            raise
        chosen_by = "XDG_CACHE_HOME in the environment" if run.config.data.cache_dir is None else "its data.cache_dir"
        expected = f"a run whose cache can be written and has room; {chosen_by} names its folder"
        raise RequestError("run", f"{run.folder} (its cache is {error.got})", expected) from error


_SOME_SUFFIXES = (".jpg", ".png", ".webp")
