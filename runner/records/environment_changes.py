"""Changes of machine or library versions between the starts of one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.errors import RunError
from runner.records.run_file import read_run

_TOLD = ("python", "platform", "cpu", "cores", "threads", "gpus", "cuda", "runner")
"""Entries of an environment that may change numbers or times; the packages beside them."""


def differences(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> list[str]:
    """What is not the same in two environments (``describe_environment``), each as ``torch 2.14.0 -> 2.15.0``."""
    pairs = [(key, earlier.get(key), later.get(key)) for key in _TOLD]
    before, now = (_mapping(one.get("packages")) for one in (earlier, later))
    pairs += [(name, before.get(name), now.get(name)) for name in {**before, **now}]
    before, now = (_mapping(one.get("plugins")) for one in (earlier, later))
    pairs += [(f"plug-in {name}", before.get(name), now.get(name)) for name in {**before, **now}]
    before, now = (_mapping(one.get("code")) for one in (earlier, later))
    # records of former versions know of no code
    pairs += [(f"code of {name}", before[name], now[name]) for name in before if name in now]
    return [f"{name} {_text(one)} -> {_text(other)}" for name, one, other in pairs if one != other]


def with_earlier(environment: Mapping[str, Any], known: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The environments of ``known``, in order, that are not ``environment`` nor one of those before them."""
    kept: list[Mapping[str, Any]] = []
    for one in known:
        if one and all(differences(one, other) for other in (environment, *kept)):
            kept.append(one)
    return tuple(kept)


def environments_before(
    run_dir: Path, environment: Mapping[str, Any]
) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """The environments other than ``environment`` in which the run in ``run_dir`` went so far, and what to note of it.

    There is nothing to note where the last one was the same.
    """
    try:
        earlier = read_run(run_dir)
    except (FileNotFoundError, RunError):  # who reads it to go on has told
        return (), ()
    changed = differences(earlier.environment, environment) if earlier.environment else []
    notes = (f"taken up again in another environment: {', '.join(changed)}",) if changed else ()
    return with_earlier(environment, (*earlier.earlier_environments, earlier.environment)), notes


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
