"""The images of a run, brought to what its network and its starting weights were made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from runner.config.load import OfOption
from runner.config.words.pluralize import pluralize
from runner.data.open import open_data
from runner.errors import RequestError
from runner.models.input_spec import input_of_network, input_of_weights

if TYPE_CHECKING:
    from runner.config.schema import DataConfig, RunConfig
    from runner.data.cache.listed_data import ListedData
    from runner.data.images import ImageData, ImageSet
    from runner.models.input_spec import InputSpec
    from runner.planning.plan import DataPlan

_LOOKED_AT = 512
"""Training images over which statistics are told."""


def open_run_data(config: RunConfig) -> ImageData:
    """``open_data`` with what the configuration leaves to the model.

    Size, interpolation and the constants of the normalisation come with the starting weights, apart from what was
    typed.  Where ``data.image_size`` is null and the images have no size in common, it is that of the network.

    Raises:
        RequestError, RunError: see ``open_data``.
    """
    data, weights = config.data, None
    if config.model.weights is not None:
        weights = input_of_weights(config.model)
        data = data if weights is None else _as_trained(data, weights)
    constants = None if weights is None or weights.mean is None or weights.std is None else (weights.mean, weights.std)
    notes: list[str] = []
    try:
        opened = open_data(data, constants=constants)
    except RequestError as error:
        network = input_of_network(config.model) if error.key == "data.image_size" and data.image_size is None else None
        if network is None or network.size is None:
            raise
        data = replace(data, image_size=network.size)
        opened = open_data(data, constants=constants)
        notes.append(
            f"data.image_size is null and the images have no size in common: {network.size} pixels, as"
            f" {network.stated_by} has it"
        )
    if weights is not None:
        notes.append(_told(config, opened, weights))
    elif config.model.weights is not None:
        notes.append(
            f"nobody states what model.weights={config.model.weights} was trained with: images are normalised by mean"
            f" {_figures(opened.mean)} and std {_figures(opened.std)} (data.mean, data.std)"
        )
    by_model = data.image_size is not None and config.data.image_size is None
    return replace(opened, notes=(*opened.notes, *notes), size_of_model=by_model)


def open_planned_data(
    config: RunConfig, plan: DataPlan, *, on_listed: Callable[[ListedData], None] | None = None
) -> ImageData:
    """The images of a run as ``plan`` has settled them, for what reads a run that has begun; asks no model."""
    return open_data(resolved_data_config(config, plan), on_listed=on_listed)


def resolved_data_config(config: RunConfig, plan: DataPlan) -> DataConfig:
    """The data group with what was left to the model as ``plan`` has it."""
    data = config.data
    if plan.size_of_model:
        data = replace(data, image_size=plan.image_size)
    if config.model.weights is None:
        return data
    data = replace(data, interpolation=plan.interpolation)
    left_open = data.mean is None or isinstance(data.mean, OfOption)
    return replace(data, mean=list(plan.mean), std=list(plan.std)) if left_open else data


def _as_trained(data: DataConfig, weights: InputSpec) -> DataConfig:
    changed = replace(
        data,
        image_size=weights.size if data.image_size is None else data.image_size,
        interpolation=data.interpolation or weights.interpolation,
    )
    if weights.mean is not None and weights.std is not None and isinstance(data.mean, OfOption):
        changed = replace(changed, mean=None, std=None)
    return changed


def _told(config: RunConfig, data: ImageData, weights: InputSpec) -> str:
    told = (
        f"images as model.weights={config.model.weights} takes them, by {weights.stated_by}: mean"
        f" {_figures(data.mean)}, std {_figures(data.std)}, {data.interpolation}, {data.image_size} pixels"
    )
    typed = None if isinstance(config.data.mean, OfOption) else config.data.mean
    if weights.mean is not None and typed is not None and list(data.mean) == list(typed):
        told = (
            f"mean {_figures(data.mean)} and std {_figures(data.std)} as typed, where model.weights="
            f"{config.model.weights} were trained with {_figures(weights.mean)} and {_figures(weights.std or ())}"
            f" ({weights.stated_by}); {data.interpolation}, {data.image_size} pixels"
        )
    if config.privacy.enabled:  # figures of private images are not to be shown
        return told
    count, mean, std = _statistics(data.train)
    return f"{told}; {pluralize(count, 'training image')} themselves: mean {_figures(mean)}, std {_figures(std)}"


def _statistics(images: ImageSet) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels of each channel, in [0, 1], over a few hundred images spread over the split."""
    count = min(len(images), _LOOKED_AT)
    positions = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
    total = square = np.zeros(images.images.shape[-1])
    pixels = 0
    for position in positions:
        values = images.pixels(position[None])[0].reshape(-1, len(total)) / 255
        total, square, pixels = total + values.sum(0), square + (values**2).sum(0), pixels + len(values)
    mean = total / pixels
    return count, tuple(mean), tuple(np.sqrt(np.maximum(square / pixels - mean**2, 0)))


def _figures(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.3f}' for value in values)})"
