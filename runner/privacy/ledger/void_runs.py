"""Runs of earlier versions whose recorded epsilon does not hold, and why.

Until plans named their draws (``PrivacyPlan.draws``), what augmentation and dropout drew under DP followed from the
public seed and the place of an example in the secret batch.  One example more moved all later ones to other crops and
masks, and so the clipped sum by far more than its bound (43 times it, in one shipped recipe).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.config.identity import identity_of

DRAWS = "example"
"""``PrivacyPlan.draws`` of every run that starts today."""
_WHY = (
    "drew by the place in the batch and the public seed in the version that made this run, so that one example could"
    " move the clipped sum by more than its bound: no epsilon holds"
)

# Factories of this package, none of which had a random layer.
_OWN = re.compile(r"runner\.models\.(dense|convolutional|oriented_gradients|scattering)\.")
# Architectures that draw nothing unless an option asks for it.
_PLAIN = {
    "runner.models.from_torchvision.build": re.compile(r"(resnet|resnext|wide_resnet|regnet|shufflenet|vit_)"),
    "runner.models.from_timm.build": re.compile(r"(resnet|resnext|wide_resnet|regnet)"),
}
_DRAWING_OPTION = re.compile(r"drop|stochastic|noise|aug|mix", re.IGNORECASE)


def void_reason(plan: Mapping[str, Any] | None) -> str | None:
    """Why the epsilon of a private run does not hold; None where it does, and where the run claims none.

    In words, for behind "void: ".  What cannot be told of a private run counts against it.

    Args:
        plan: ``plan`` of the run's ``run.json``, of any version.
    """
    semantic = (plan or {}).get("semantic")
    if not isinstance(semantic, Mapping) or (privacy := semantic.get("privacy")) is None:
        return None
    try:
        if privacy.get("draws") is not None or privacy.get("unsafe_noise_seed") is not None:
            return None
        drawing = [*_augmentation(semantic["data"]["augment"]), *_random_layers(semantic["model"])]
    except (KeyError, TypeError, AttributeError):
        return "its record does not say what it drew, and by what"
    return f"{' and '.join(drawing)} {_WHY}" if drawing else None


_RANGES = ("crop_area", "erasing_area", "rand_augment_magnitude")


def _augmentation(augment: Mapping[str, Any]) -> list[str]:
    """Every change that was on: all settings but the ranges of some of them are off at 0 or false."""
    on = [name for name, value in sorted(augment.items()) if value and name not in _RANGES]
    return [f"augmentation ({', '.join(on)})"] if on else []


def _random_layers(model: Mapping[str, Any]) -> list[str]:
    target, name = str(model["target"]), str(model["name"])
    asked = sorted(key for key, value in model["options"].items() if value and _DRAWING_OPTION.search(key))
    if asked:
        return [f"{name} with {', '.join(asked)}"]
    plain = _PLAIN.get(target)
    if _OWN.match(target) or (plain is not None and plain.match(name)):
        return []
    return [f"{name}, which may have random layers such as dropout,"]


def recorded_plan(folder: Path, identity: str) -> Mapping[str, Any] | None:
    """The plan in the ``run.json`` of ``folder``, if it is the plan of ``identity``."""
    try:
        plan = json.loads((folder / "run.json").read_bytes())["plan"]
        return plan if identity_of(plan["semantic"]) == identity else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
