"""Whether what layers that never change make of an image can be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import RequestError

if TYPE_CHECKING:
    from runner.config.schema import RunConfig


def without_views(config: RunConfig) -> str | None:
    """The first key by which an image is another one at each use; a mirrored image is one more view of it."""
    return next((f"data.augment.{key}" for key in config.data.augment.changing if key != "flip"), None)


def rounded_features_are_kept(config: RunConfig) -> None:
    """Refuse features that are rounded when they are kept, where none are."""
    if config.features.dtype == "float32":
        return
    if config.features.cache == "off":
        raise RequestError("features.dtype", f"{config.features.dtype} with features.cache=off", "float32")
    if (key := without_views(config)) is not None:
        got = f"{config.features.dtype} with {key}, which makes another image of it each time"
        raise RequestError("features.dtype", got, "float32, or data.augment.flip alone")


def keeps_features(config: RunConfig, *, images_seen: int, examples: int) -> bool:
    """Whether to keep them: an image has one view or two, and each is seen at least once, or they are rounded."""
    if config.features.cache == "off" or without_views(config) is not None:
        return False
    seen = images_seen * (config.privacy.augmentation_multiplicity if config.privacy.enabled else 1)
    return config.features.dtype != "float32" or seen >= examples * (2 if config.data.augment.flip else 1)
