"""Rules of the comparison of a sweep, checked before its first run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS, yaml_key
from runner.config.schema import RunConfig
from runner.errors import RequestError, nearest


def a_comparison_can_be_made(config: RunConfig) -> None:
    """Refuse a comparison by a key that no run has, and of a loss without a margin, and by money without a price."""
    comparison = config.comparison
    known = {*OPEN, *CLOSED, *RECIPES, *_keys(config)}
    for key in comparison.by:
        if key not in known:
            same_name = [name for name in sorted(known) if name.rpartition(".")[2] == key.rpartition(".")[2]]
            near = same_name[0] if len(same_name) == 1 else nearest(key, sorted(known))
            raise RequestError("comparison.by", key, "a key or group that a run has", nearest=near)
    if comparison.metric is not None and comparison.metric.endswith("loss") and comparison.margin is None:
        raise RequestError("comparison.margin", None, f"a number of nats that matters, for {comparison.metric}")
    if comparison.decision == "money" and config.hardware.price_per_hour is None:
        raise RequestError("comparison.decision", "money", "another cost, or hardware.price_per_hour beside it")


def _keys(value: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys below ``value`` as they are typed; the options of an open group are keys of the group."""
    if dataclasses.is_dataclass(value):
        pairs = [(yaml_key(field.name), getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        yield prefix
        return
    for name, item in pairs:
        if name not in SECTIONS:
            yield from _keys(item, prefix if name == "options" else f"{prefix}.{name}".lstrip("."))
