"""The identity of a run: a hash of those parts of its plan that decide what is computed.

The plan and a ``run.json`` of any version hold it as plain values, which this reads; nothing else is needed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runner.config.augment_config import LATER

_FLOAT16_COUNTS = (
    "dtype",
    "tf32",
    "init_scale",
    "growth_factor",
    "backoff_factor",
    "growth_interval",
    "max_skipped_in_a_row",
    "static_scale",
)

_OF_CLASSIFY = {
    "target": "runner.tasks.classify.Classify",
    "name": "classify",
    "loss": "cross_entropy",
    "focal_gamma": 2.0,
    "class_weights": None,
}
"""Parts of the task as they are of plans from before there was another."""


def identity_of(semantic: dict[str, Any]) -> str:
    """SHA-256 of the semantic part of a plan, as the plan or a ``run.json`` holds it."""
    text = json.dumps(identity_fields(semantic), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def identity_fields(semantic: dict[str, Any]) -> dict[str, Any]:
    """What counts of the semantic part of a plan, as the plan or a ``run.json`` holds it, in the values of JSON.

    Why a type was taken, where weights came from, and the loss scale of runs that have none change no number and are
    left out.
    """
    recipe: dict[str, Any] = json.loads(json.dumps(semantic, allow_nan=False))
    counts = ("dtype", "tf32") if recipe["precision"]["dtype"] != "float16" else _FLOAT16_COUNTS
    recipe["precision"] = {key: recipe["precision"][key] for key in counts}
    # the file counts by its contents: the same weights may move, and others may take their place
    del recipe["model"]["weights"]
    # what the ledger knows the data by; the fingerprint counts
    recipe["data"].pop("contents", None)
    # both count in the fingerprint; the usual way is that of plans from before there was another
    recipe["data"].pop("size_of_model", None)
    if recipe["data"].get("interpolation") == "bilinear":
        del recipe["data"]["interpolation"]
    # as in plans from before there were these changes
    for key, off in LATER.items():
        if recipe["data"]["augment"].get(key) == off:
            del recipe["data"]["augment"][key]
    if recipe["data"].get("sampler") == "shuffle":
        del recipe["data"]["sampler"]
    # plans from before there was a choice say nothing of it
    task = recipe.pop("task", {})
    if chosen := {key: value for key, value in task.items() if key not in _OF_CLASSIFY or value != _OF_CLASSIFY[key]}:
        recipe["task"] = chosen
    # as in plans from before anything was kept, which had all bits
    if recipe.get("features_dtype") == "float32":
        del recipe["features_dtype"]
    # how, not what; and what is scaled stands in the learning rate
    recipe["model"].pop("gradient_checkpointing", None)
    for key in ("scale_lr", "reference_batch_size"):
        recipe["optimizer"].pop(key, None)
    return recipe
