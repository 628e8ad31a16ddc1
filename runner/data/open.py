"""From the data group of a configuration to training, validation and test splits."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from runner.config.schema import DataConfig
from runner.config.untrusted.target_arguments import target_arguments
from runner.config.untrusted.targets import locate
from runner.config.words.pluralize import pluralize
from runner.config.words.unknown_option import unknown_option
from runner.data.cache.image_store import StoreLayout
from runner.data.cache.listed_data import ListedData
from runner.data.contract import keep_contract
from runner.data.decoding.pixels import BILINEAR
from runner.data.folders.suspicious_splits import notes_on_classes, notes_on_repeats
from runner.data.images import Decoded, ImageData, ImageSet, Keeping
from runner.data.splits import TEST, VAL, hold_out, hold_out_fold, thin
from runner.errors import RequestError, nearest

# Means and deviations of ImageNet's training images, published with torchvision's reference models.  For grey
# images, the luma (ITU-R BT.601) of that mean and the average of the deviations, and so for each of other bands.
RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.459,), (0.226,)

LUMA = (0.299, 0.587, 0.114)

TELL = "tell"
"""A parameter of sources that is no key of the data group: see ``runner.data.cache.listed_data.Tell``."""


def open_data(
    config: DataConfig,
    *,
    on_listed: Callable[[ListedData], None] | None = None,
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> ImageData:
    """Decode the source or open its cache, hold out what it does not bring, apply ``limit``.

    Splits that the source brings are kept.  Under ``data.fold`` the test is that fold of the training images, and a
    test split of the source stays untouched.  A source that brings a validation split but no test is taken to
    mean it: no test is cut from its training images.

    Args:
        config: The data group.
        on_listed: Called with what the source knows of its images before it decodes any, and maybe again when it knows
            more; raises where these are not the data that were meant.  Only sources of files call it.
        constants: Mean and deviation of each channel where the data group leaves them open; None for ImageNet's.

    Raises:
        RequestError: The source cannot be found or refuses its files, a class is too small to split, or the constants
            of the normalisation do not fit the channels.
        RunError: Files changed while they were being read.
    """
    _check_choices(config)
    decoded = _call_source(config, on_listed)
    _refuse_lost_classes(decoded)
    train, val, test = _split(decoded, config)
    size, channels = decoded.train.images.shape[2:]
    _check_shapes(decoded, config)
    default_mean, default_std = _constants(constants or (RGB_MEAN, RGB_STD), channels)
    if decoded.margin is not None:
        train = replace(train, images=decoded.margin)
    return ImageData(
        name=config.name,
        classes=decoded.classes,
        train=train,
        val=val,
        test=test,
        mean=_per_channel("data.mean", config.mean, default_mean, channels, low=None),
        std=_per_channel("data.std", config.std, default_std, channels, low=0.0),
        channels=channels,
        image_size=size,
        fingerprint=_fingerprint(decoded.fingerprint, train, val, test),
        origin=decoded.fingerprint if decoded.origin is None else decoded.origin,
        skipped=decoded.skipped,
        contents=decoded.contents,
        interpolation=config.interpolation or BILINEAR,
        notes=(
            *decoded.notes,
            *_ignored_fractions(decoded, config),
            *notes_on_classes(decoded.classes, train, val, test),
            *notes_on_repeats(decoded.repeats, train, val, test),
        ),
        keeping=Keeping(mode=config.cache, folder=config.cache_dir, shared=config.cache_shared),
        val_held_out=val is not None and decoded.val is None,
        origins=_origins(decoded, config),
    )


def _refuse_lost_classes(decoded: Decoded) -> None:
    """See that files which were left out leave an image of every class to train on.

    Raises:
        RequestError: they do not.
    """
    lost = sorted(set(range(len(decoded.classes))) - set(np.unique(decoded.train.labels).tolist()))
    if not lost or not decoded.skipped:
        return
    name = decoded.classes[lost[0]]
    bad = next((file for file in decoded.skipped if name in file.file.split("/")[:-1]), decoded.skipped[0])
    more = f", nor of {pluralize(len(lost) - 1, 'other class')}" if len(lost) > 1 else ""
    raise RequestError(
        "data.root",
        f"class {name} (no training image of it can be read{more}; {bad})",
        "a readable training image of every class, or no folder for it",
    )


def _origins(decoded: Decoded, config: DataConfig) -> dict[str, str]:
    """For people: where training, validation and test images come from, as ``_split`` takes them."""
    held = "held out of training"
    own = {"val": decoded.val, "test": decoded.test}
    found = {name: decoded.places.get(name, held if own.get(name, decoded) is None else "") for name in ("train", *own)}
    if config.fold is not None:
        found["test"] = f"fold {config.fold} of {config.folds}"
    return found


def _ignored_fractions(decoded: Decoded, config: DataConfig) -> Iterator[str]:
    """Notes on fractions that were asked for and that ``_split`` ignores."""
    usual = DataConfig()
    own = [name for name, images in (("validation", decoded.val), ("test", decoded.test)) if images is not None]
    split = f"the data have a {' and a '.join(own)} split of their own"
    if own and config.fold is None and config.test_fraction != usual.test_fraction:
        yield f"data.test_fraction={config.test_fraction:g} changes nothing: {split}"
    if decoded.val is not None and config.val_fraction != usual.val_fraction:
        yield f"data.val_fraction={config.val_fraction:g} changes nothing: {split}"


def _list_data(config: DataConfig, layout: StoreLayout | None, origin: str | None) -> ListedData:
    if layout is None:
        return ListedData(classes=None, examples=None, origin=origin)
    examples = None
    if config.on_bad_file == "refuse":  # otherwise decoding alone knows how many are left out
        no_pixels = {"images": np.empty((0, 0, 0, 0), dtype=np.uint8)}
        with contextlib.suppress(RequestError):  # a class too small to split, which is refused when they are opened
            examples = len(_split(layout.decoded(no_pixels, {}, fingerprint="", origin=""), config)[0])
    return ListedData(classes=layout.classes, examples=examples, origin=origin)


def _split(decoded: Decoded, config: DataConfig) -> tuple[ImageSet, ImageSet | None, ImageSet | None]:
    train, val, test = decoded.train, decoded.val, decoded.test
    classes, seed = decoded.classes, config.split_seed
    if config.fold is not None:
        kept, held = hold_out_fold(train.labels, config.fold, config.folds, seed=seed, classes=classes)
        train, test = train.take(kept), train.take(held)
    elif test is None and val is None and config.test_fraction > 0:
        fraction = config.test_fraction
        kept, held = hold_out(
            train.labels, fraction, seed=seed, purpose=TEST, key="data.test_fraction", classes=classes
        )
        train, test = train.take(kept), train.take(held)
    if val is None and config.val_fraction > 0:
        fraction = config.val_fraction
        kept, held = hold_out(train.labels, fraction, seed=seed, purpose=VAL, key="data.val_fraction", classes=classes)
        train, val = train.take(kept), train.take(held)
    if config.limit is None:
        return train, val, test

    def limited(images: ImageSet, limit: int) -> ImageSet:
        return images.take(thin(images.labels, limit, seed=seed, classes=classes))

    return (
        limited(train, config.limit),
        None if val is None else limited(val, config.limit),
        None if test is None else limited(test, config.limit),
    )


def _check_choices(config: DataConfig) -> None:
    if config.channels is not None and config.channels < 1:
        raise RequestError("data.channels", config.channels, "1 (grey), 3 (RGB), the number of bands of TIFFs, or null")
    if config.image_size is not None and config.image_size < 1:
        raise RequestError("data.image_size", config.image_size, "a number of pixels, at least 1, or null")
    if config.on_bad_file not in ("refuse", "skip"):
        choices = ("refuse", "skip")
        raise RequestError(
            "data.on_bad_file", config.on_bad_file, "refuse or skip", nearest=nearest(config.on_bad_file, choices)
        )


def _call_source(config: DataConfig, on_listed: Callable[[ListedData], None] | None) -> Decoded:
    source = locate("data", config.target)
    arguments = target_arguments(source)
    parameters = list(arguments.named)[1:]
    known = [name for name in parameters if name != TELL]
    for option in config.options:
        if option not in known and (option == TELL or not arguments.takes_others):
            raise unknown_option(
                f"data.{option}", config.options[option], known, f" for data={config.name}", target=config.target
            )
    tell = {}
    if on_listed is not None and TELL in parameters:
        tell = {TELL: lambda layout, origin: on_listed(_list_data(config, layout, origin))}
    decoded = source(config, **config.options, **tell)
    if not isinstance(decoded, Decoded):
        raise RequestError(
            "data._target_", f"{config.target}, which gives {type(decoded).__name__}", "a source of Decoded"
        )
    return keep_contract(decoded, target=config.target)


def _check_shapes(decoded: Decoded, config: DataConfig) -> None:
    """Refuse splits that differ in shape, and a size or a number of channels that the source ignores.

    Raises:
        RequestError: names the key.
    """
    _, height, width, channels = decoded.train.images.shape
    for name, split in (("val", decoded.val), ("test", decoded.test)):
        if split is not None and split.images.shape[1:] != (height, width, channels):
            shapes = f"{list(split.images.shape[1:])} in {name} and {[height, width, channels]} in train"
            raise RequestError("data._target_", f"images of {shapes} from {config.target}", "one shape for all splits")
    if height != width:
        got = f"images of {height} x {width} pixels and {channels} channels from {config.target}"
        raise RequestError("data._target_", got, "square images")
    if config.channels is not None and channels != config.channels:
        got = f"{config.channels}, and {config.target} gives {channels}"
        raise RequestError("data.channels", got, f"null or {channels}, or a source that honours it")
    if config.image_size is not None and height != config.image_size:
        got = f"{config.image_size}, and {config.target} gives {height} x {width} pixels"
        raise RequestError("data.image_size", got, f"null or {height}, or a source that honours it")


def _constants(
    given: tuple[tuple[float, ...], tuple[float, ...]], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation for each of so many channels: of colours, for other bands, those of grey."""
    mean, std = given
    if len(mean) != channels and (mean, std) == (RGB_MEAN, RGB_STD):
        mean, std = GREY_MEAN, GREY_STD
    if len(mean) != channels and len(mean) == 3:
        luma = round(sum(weight * value for weight, value in zip(LUMA, mean, strict=True)), 9)
        mean, std = (luma,), (sum(std) / len(std),)
    if len(mean) != channels:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        return mean * channels, std * channels
    return mean, std


def _per_channel(
    key: str, given: Sequence[float] | None, default: tuple[float, ...], channels: int, *, low: float | None
) -> tuple[float, ...]:
    if given is None:
        return default
    values = tuple(float(value) for value in given)
    if low is not None and min(values, default=low) <= low:
        raise RequestError(key, list(given), "numbers greater than 0")
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise RequestError(key, f"{len(values)} values", f"one value, or one for each of {channels} channels")
    return values


def _fingerprint(contents: str, *splits: ImageSet | None) -> str:
    total = hashlib.sha256(contents.encode())
    for split in splits:
        rows = b"" if split is None else split.rows.astype("<i8").tobytes()
        total.update(len(rows).to_bytes(8, "little") + rows)
        if split is not None:
            total.update(split.labels.astype("<i8").tobytes())
    return total.hexdigest()
