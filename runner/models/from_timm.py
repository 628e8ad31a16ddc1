"""Any network of timm, where timm is installed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import timm
from timm.models import build_model_with_cfg, create_model
from torch import nn

from runner.error_texts import unexpected_argument
from runner.errors import RequestError, nearest
from runner.models.surgery import check_image_size
from runner.models.weights import PRETRAINED, new_head

log = logging.getLogger(__name__)


def build(
    *,
    name: str,
    pretrained: bool,
    in_channels: int,
    num_classes: int,
    image_size: int,
    tell: Callable[[str], None] = log.info,
    **options: Any,
) -> nn.Module:
    """Build timm's network ``name``: [b, in_channels, image_size, image_size] to [b, num_classes].

    timm itself fits channels, classes and, for networks that depend on it, the image size; ``options`` go to
    ``timm.create_model``, and ``tell`` takes what was left out of the pretrained weights.

    Raises:
        RequestError: when timm is not installed, or does not have the network, an option or the weights.
    """
    if find_spec("timm") is None:
        raise RequestError("model", "timm (not installed)", "an installed timm: pip install recipe-runner[timm]")

    if not timm.is_model(name):
        raise RequestError("model.name", name, "a model of timm", nearest=nearest(name, timm.list_models()))
    _refuse_sources_of_weights(name, options)
    shape: dict[str, Any] = {"in_chans": in_channels, "num_classes": num_classes}
    try:
        try:
            # Only networks with positions know this argument; there is no telling which without asking.
            model = timm.create_model(name, pretrained=pretrained, img_size=image_size, **shape, **options)
        except TypeError:
            # what else is wrong is met again
            model = timm.create_model(name, pretrained=pretrained, **shape, **options)
    except TypeError as error:
        unknown = unexpected_argument(error)
        if unknown is None or unknown not in options:
            raise
        raise RequestError(f"model.{unknown}", options[unknown], f"an argument of timm's {name}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise RequestError(
            "model.weights",
            f"{PRETRAINED} (cannot be fetched: {error})",
            "a reachable network, a cached file of the Hugging Face hub, or a local safetensors file",
        ) from error
    cfg: Any = model.pretrained_cfg
    if pretrained and cfg["num_classes"] != num_classes:
        head = cfg["classifier"]
        left = head if isinstance(head, str) else " and ".join(head)
        tell(new_head(f"{PRETRAINED} of timm's {name}", cfg["num_classes"], num_classes, left))
    check_image_size(model, name=name, channels=in_channels, num_classes=num_classes, image_size=image_size)
    return model


def _refuse_sources_of_weights(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what is no argument of a network but says which files or addresses timm loads: these may hold code."""
    loaders = (*inspect.signature(create_model).parameters, *inspect.signature(build_model_with_cfg).parameters)
    for option, value in options.items():
        if option in loaders or option.startswith("pretrained"):
            raise RequestError(f"model.{option}", value, f"an argument of timm's {name}; weights come by model.weights")
