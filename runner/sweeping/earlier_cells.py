"""Resuming a sweep: what a cell's folder holds from an earlier start, and whether it may be kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.config.groups import yaml_key
from runner.config.schema import RunConfig
from runner.config.untrusted.run_config import read_values
from runner.errors import ExitCode, RequestError, as_typed
from runner.execution.attempt import Attempt

_COUNTED = (
    "data",
    "model",
    "optimizer",
    "scheduler",
    "task",
    "trainer",
    "precision",
    "privacy",
    "seed",
    "deterministic",
)
"""Groups and keys that make a cell what it is; where it runs and who is told may change."""

_HOW = ("data.eval_batch_size", "model.gradient_checkpointing", "trainer.save_every")
"""Keys among them that may change all the same, where they are not what the sweep asks about."""

_PLACES = ("data.root", "data.cache_dir", "data.cache_shared", "privacy.ledger_dir", "privacy.sweep_epsilon")
"""Keys that never count: data do so by their contents, which the plan of a run knows, and a limit holds for a sweep."""


def refuse_other_config(folder: Path, config: RunConfig, varied: Collection[str]) -> None:
    """Refuse a cell whose ``folder`` holds a cell of another recipe.

    ``varied`` are the keys in which the cells of this sweep differ: those count whatever they are.

    Raises:
        RequestError: names the first key that differs.
    """
    earlier = earlier_config(folder)
    if earlier is None:
        return
    before, now = dict(leaves(earlier)), dict(leaves(config))
    for key in {**now, **before}:
        counts = key in varied or (key.split(".")[0] in _COUNTED and key not in _HOW)
        if counts and key not in _PLACES and before.get(key) != now.get(key):
            raise RequestError(
                key,
                as_typed(now.get(key)),
                f"{as_typed(before.get(key))}, as in {folder}, or another hydra.sweep.dir",
            )


def earlier_config(folder: Path) -> RunConfig | None:
    """The configuration of the cell in ``folder``; None where there is none that can be read."""
    try:
        return read_values(folder)
    except (OSError, RequestError):
        # not begun, cut off by a kill, or of an older version: then the run's own checkpoint has the say
        return None


def finished_attempts(cells: Sequence[tuple[RunConfig, Path]]) -> list[Attempt]:
    """How completed cells ended, if each folder still holds the very run of its configuration, by its plan's identity.

    Raises:
        RequestError: one does not; its data have changed, say.
    """
    from runner.execution.job import find_finished, objective_of, plan_run

    found = []
    for config, folder in cells:
        plan = plan_run(config, folder)
        record = find_finished(folder, plan, config.data.cache_dir)
        assert record is not None
        found.append(Attempt(exit_code=ExitCode.DONE, objective=objective_of(plan, record.metrics)))
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key, as it is typed, and value of everything in a configuration."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            name = path if field.name == "options" else f"{path}.{yaml_key(field.name)}".lstrip(".")
            yield from leaves(getattr(value, field.name), name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    else:
        yield path, value
