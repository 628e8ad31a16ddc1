"""The input that a network or its weights expect: size, normalisation, interpolation."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runner.config.schema import Interpolation, ModelConfig
from runner.config.weights_of_run import weights_file
from runner.errors import RequestError
from runner.models.weights import PRETRAINED

TIMM, TORCHVISION = "runner.models.from_timm.build", "runner.models.from_torchvision.build"

_LARGEST_NOTE = 2**24
"""Bytes of a JSON file beside weights that is read, at most."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What is known; the rest is None."""

    size: int | None
    """Height and width in pixels."""
    mean: tuple[float, ...] | None
    """Per channel, in [0, 1]."""
    std: tuple[float, ...] | None
    interpolation: Interpolation | None
    stated_by: str
    """Who says so, for messages."""


def input_of_network(model: ModelConfig) -> InputSpec | None:
    """What the library of ``model`` made it for, whatever its weights are; None for other networks."""
    if model.target == TIMM:
        return _of_timm(model.name)
    return _of_torchvision(model.name) if model.target == TORCHVISION else None


def input_of_weights(model: ModelConfig) -> InputSpec | None:
    """What the starting weights of ``model`` were trained with; None where nobody says.

    ``DEFAULT`` is what the library states.  Of a file it is what the run states whose checkpoint it is, or the
    ``config.json`` that lies beside it on the Hugging Face hub; else, for timm, what timm states of the name.
    """
    if model.weights is None:
        return None
    if model.weights == PRETRAINED:
        return input_of_network(model)
    file = weights_file(model.weights)
    found = _of_run(file) or _of_hub(file)
    return found or (_of_timm(model.name) if model.target == TIMM else None)


def _of_timm(name: str) -> InputSpec | None:
    if find_spec("timm") is None:
        return None
    import timm

    try:
        stated = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such network, which building it will say
        return None
    if stated is None:
        return None
    tag = f"{stated.architecture or name}{f'.{stated.tag}' if stated.tag else ''}"
    return _as_stated(stated.to_dict(), f"timm for {tag}")


def _of_torchvision(name: str) -> InputSpec | None:
    from torchvision import models

    try:
        changes = models.get_model_weights(name)[PRETRAINED].transforms()
    except (ValueError, KeyError):
        return None
    return InputSpec(
        size=int(changes.crop_size[0]),
        mean=tuple(changes.mean),
        std=tuple(changes.std),
        interpolation=_known(changes.interpolation.value),
        stated_by=f"torchvision for {name}",
    )


def _of_run(file: Path) -> InputSpec | None:
    """What the run was trained with whose checkpoint ``file`` is."""
    data: Any = _read(file.parent / "manifest.json").get("recipe", {}).get("data")
    if not isinstance(data, dict) or "mean" not in data:
        return None
    return InputSpec(
        size=_whole(data.get("image_size")),
        mean=_numbers(data["mean"]),
        std=_numbers(data.get("std")),
        interpolation=_known(data.get("interpolation", "bilinear")),
        stated_by=f"the run whose checkpoint is {file.parent}",
    )


def _of_hub(file: Path) -> InputSpec | None:
    """What the ``config.json`` beside ``file`` says, in the form of timm's repositories on the hub."""
    stated = _read(file.parent / "config.json").get("pretrained_cfg")
    return _as_stated(stated, str(file.parent / "config.json")) if isinstance(stated, dict) else None


def _as_stated(stated: Mapping[str, Any], by: str) -> InputSpec:
    size = stated.get("input_size")
    return InputSpec(
        size=_whole(size[-1]) if isinstance(size, list | tuple) and size else None,
        mean=_numbers(stated.get("mean")),
        std=_numbers(stated.get("std")),
        interpolation=_known(stated.get("interpolation")),
        stated_by=by,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_NOTE:
            return {}
        found = json.loads(path.read_bytes())
    except OSError:
        return {}
    except ValueError as error:
        raise RequestError(
            "model.weights", f"{path} beside it (no JSON: {error})", "weights with what belongs to them"
        ) from error
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _numbers(values: Any) -> tuple[float, ...] | None:
    if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
        return None
    return tuple(float(value) for value in values)


def _known(interpolation: Any) -> Interpolation | None:
    return interpolation if interpolation in typing.get_args(Interpolation) else None
