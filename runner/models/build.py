"""Building the network of a run from the model's configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from torch import nn

from runner.config.schema import ModelConfig
from runner.config.untrusted.target_arguments import TargetArguments, target_arguments
from runner.config.untrusted.targets import locate
from runner.config.words.unknown_option import unknown_option
from runner.errors import RequestError
from runner.models.batch_statistics import exchangeable
from runner.models.exchange_check import exchange
from runner.models.outputs import check_outputs, with_output_hint
from runner.models.weights import PRETRAINED, load_weights, read_weights

log = logging.getLogger(__name__)

_FROM_DATA = ("in_channels", "num_classes", "image_size")
_FROM_CONFIG = ("name", "pretrained", "tell")


def build_network(
    config: ModelConfig,
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    norm: Literal["batch", "group"],
    tell: Callable[[str], None] = log.info,
) -> nn.Module:
    """Build the network for images [b, channels, image_size, image_size] and ``num_classes`` logits.

    New parameters are drawn from torch's default generator, which the caller seeds.  A factory is a callable
    ``f(*, in_channels, num_classes, image_size, **options)``; it is also given ``name`` and ``pretrained``, whether the
    library's own weights are asked for, when its signature names them, and ``tell``, which takes what the user should
    know of the result, such as weights that were left out.

    Raises:
        RequestError: for a factory, option, architecture, image size or weights that there are not.
    """
    factory = locate("model", config.target)
    arguments = target_arguments(factory)
    accepted = arguments.named
    _check_options(config, arguments)
    pretrained = config.weights == PRETRAINED
    if pretrained and "pretrained" not in accepted:
        raise RequestError(
            "model.weights", PRETRAINED, f"null or a safetensors file: model={config.name} has no pretrained weights"
        )
    state = None if config.weights is None or pretrained else read_weights(config.weights)
    from_config = {"name": config.name, "pretrained": pretrained, "tell": tell}
    model = factory(
        in_channels=channels,
        num_classes=num_classes,
        image_size=image_size,
        **{key: value for key, value in from_config.items() if key in accepted},
        **config.options,
    )
    if not config.target.startswith("runner."):
        check_outputs(model, target=config.target, channels=channels, num_classes=num_classes, image_size=image_size)
    shape = (channels, image_size, image_size)
    # Weights saved from a model with BatchNorm go into BatchNorm first, so that its scale and shift are carried over.
    exchanged = exchangeable(model) if norm == "group" else {}
    exchange_last = state is not None and any(f"{name}.running_mean" in state for name in exchanged)
    if norm == "group" and not exchange_last:
        model = exchange(model, image_shape=shape, tell=tell)
    if state is not None:
        load_weights(model, state, num_classes=num_classes, source=str(config.weights), tell=tell)
    if norm == "group" and exchange_last:
        model = exchange(model, image_shape=shape, tell=tell)
    if not config.target.startswith("runner."):
        with_output_hint(model, image_shape=shape, tell=tell)
    return model


def _check_options(config: ModelConfig, accepted: TargetArguments) -> None:
    names = [name for name in accepted.named if name not in (*_FROM_DATA, *_FROM_CONFIG)]
    unknown = [name for name in _FROM_DATA if name not in accepted.named and not accepted.takes_others]
    if unknown:
        expected = f"a factory f(*, {', '.join(_FROM_DATA)}, ...)"
        raise RequestError("model._target_", f"{config.target}, which takes no {unknown[0]}", expected)
    for name in accepted.required:
        if name in names and name not in config.options:
            raise RequestError(f"model.{name}", "nothing", f"a value, which {config.target} cannot do without")
    for option, value in config.options.items():
        if option in _FROM_DATA or (option not in names and not accepted.takes_others):
            raise unknown_option(f"model.{option}", value, names, f" for model={config.name}", target=config.target)
