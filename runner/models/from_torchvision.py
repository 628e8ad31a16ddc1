"""Any classification network of torchvision, fitted to the data."""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchvision import models

from runner.error_texts import unexpected_argument
from runner.errors import RequestError, nearest
from runner.models.surgery import (
    SMALL,
    adapt_channels,
    adapt_patches,
    check_image_size,
    patch_size_for,
    replace_head,
    shrink_stem,
)
from runner.models.weights import PRETRAINED, new_head

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 20.0
"""How long a silent network may hold up the download of weights."""


def build(
    *,
    name: str,
    pretrained: bool,
    in_channels: int,
    num_classes: int,
    image_size: int,
    small_stem: bool | None = None,
    patch_size: int | None = None,
    tell: Callable[[str], None] = log.info,
    **options: Any,
) -> nn.Module:
    """Build torchvision's network ``name``: [b, in_channels, image_size, image_size] to [b, num_classes].

    Args:
        name: architecture, as ``torchvision.models.list_models`` lists it.
        pretrained: start from torchvision's best weights, with a new head where the classes differ.
        in_channels: channels of the images; see ``adapt_channels``.
        num_classes: classes of the data.
        image_size: height and width in pixels.
        small_stem: see ``shrink_stem``; None for images of at most 32 pixels, unless weights are to fit the large stem.
        tell: takes what was left out of the pretrained weights.
        patch_size: pixels of a vision transformer's patch; None to fit it to the image size.
        options: passed on to torchvision's builder.

    Raises:
        RequestError: for what torchvision does not have, or cannot take or fetch.
    """
    names = models.list_models(module=models)
    if name not in names:
        raise RequestError("model.name", name, "a classification model of torchvision", nearest=nearest(name, names))
    if name in ("googlenet", "inception_v3") and not pretrained:
        # Their auxiliary heads make the output a tuple in training; their initialisation warns unless it is chosen.
        options = {"aux_logits": False, "init_weights": True, **options}
    model = _library_model(name, pretrained, num_classes, options, tell)
    if isinstance(model, models.VisionTransformer):
        auto = model.patch_size if pretrained else patch_size_for(image_size)
        adapt_patches(model, image_size, auto if patch_size is None else patch_size, keep=pretrained)
    elif patch_size is not None:
        raise RequestError("model.patch_size", patch_size, f"null: {name} is no vision transformer")
    _shrink_stem(model, name, pretrained, image_size, small_stem)
    adapt_channels(model, in_channels, keep=pretrained)
    check_image_size(model, name=name, channels=in_channels, num_classes=num_classes, image_size=image_size)
    return model


def _shrink_stem(model: nn.Module, name: str, pretrained: bool, image_size: int, wanted: bool | None) -> None:
    if wanted and pretrained:
        raise RequestError("model.small_stem", True, f"null or false: weights={PRETRAINED} are made for the large stem")
    if wanted or (wanted is None and image_size <= SMALL and not pretrained):
        known = shrink_stem(model)
        if wanted and not known:
            raise RequestError("model.small_stem", True, f"null or false: no small stem is known for {name}")


def _library_model(
    name: str, pretrained: bool, num_classes: int, options: dict[str, Any], tell: Callable[[str], None]
) -> nn.Module:
    try:
        if not pretrained:
            return models.get_model(name, num_classes=num_classes, **options)
        with _fetching():
            model = models.get_model(name, weights=PRETRAINED, **options)
    except TypeError as error:
        unknown = unexpected_argument(error)
        if unknown is None or unknown not in options:
            raise
        raise RequestError(
            f"model.{unknown}",
            options[unknown],
            f"an argument of torchvision.models.{name}",
            nearest=nearest(unknown, ["small_stem", "patch_size"]),
        ) from error
    old_classes = len(models.get_model_weights(name)[PRETRAINED].meta["categories"])
    if old_classes != num_classes:
        left = replace_head(model, old_classes, num_classes)
        tell(new_head(f"{PRETRAINED} of torchvision's {name}", old_classes, num_classes, left))
    return model


@contextmanager
def _fetching() -> Iterator[None]:
    """Turn what a download may raise into a wrong request, and do not wait for a silent network for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_SECONDS)
    try:
        yield
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise RequestError(
            "model.weights",
            f"{PRETRAINED} (cannot be fetched: {error})",
            f"a reachable network, a cached file in {torch.hub.get_dir()}/checkpoints, or a local safetensors file",
        ) from error
    finally:
        socket.setdefaulttimeout(before)
