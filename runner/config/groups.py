"""The config groups: which exist, which dataclass types each, and which may hold keys of their own."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

from runner.config.features_config import FeaturesConfig
from runner.config.schema import (
    ComparisonConfig,
    DataConfig,
    HardwareConfig,
    ModelConfig,
    OptimizerConfig,
    PrecisionConfig,
    PrivacyConfig,
    SchedulerConfig,
    TrackerConfig,
    TrainerConfig,
)
from runner.config.task_config import TaskConfig

OPEN: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "scheduler": SchedulerConfig,
}
"""Groups whose YAML may hold keys beyond the dataclass: keyword arguments of the ``_target_``."""

CLOSED: dict[str, type] = {
    "task": TaskConfig,
    "trainer": TrainerConfig,
    "precision": PrecisionConfig,
    "privacy": PrivacyConfig,
    "hardware": HardwareConfig,
    "tracker": TrackerConfig,
}
"""Groups whose dataclass lists every key there is."""

SECTIONS: dict[str, type] = {"features": FeaturesConfig, "comparison": ComparisonConfig}
"""Closed parts of the root that come in one form, and so are no groups with options to choose from."""

RECIPES = ("experiment", "sweep")
"""Groups whose options set keys of any other group; they hold no keys themselves and may be null."""

TARGET = "_target_"
"""What YAML calls the field ``target``: Hydra's name for the import path of a part."""


def yaml_key(field_name: str) -> str:
    """The name in YAML and on the command line of a dataclass field."""
    return TARGET if field_name == "target" else field_name


def set_beyond_schema(key: str) -> bool:
    """Whether the kind of ``key``, as it is typed, is known from the YAML of an open group's option alone.

    So are the names of its parts.
    """
    group, _, rest = key.partition(".")
    return bool(rest) and group in OPEN and rest.partition(".")[0] not in _typed_in_schema(group)


@cache
def _typed_in_schema(group: str) -> frozenset[str]:
    return frozenset(yaml_key(field.name) for field in fields(OPEN[group])) - {"name", "options", TARGET}


def field_name(yaml_key: str) -> str:
    """The dataclass field of a name in YAML or on the command line."""
    return "target" if yaml_key == TARGET else yaml_key
