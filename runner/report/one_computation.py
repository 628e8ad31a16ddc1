"""Recipes that are one computation twice: by the identity of their plans, or by all that they recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.errors import as_typed
from runner.report.cells import CellResult
from runner.report.recipes import Block, Grouping, Recipe

_IRRELEVANT = (
    "device_name",
    "grad_sample_reason",
    "batch_reason",
    "batch_source",
    "lr_reason",
    "eval_batch_size",
    "log_every",
    "save_every",
    "secure_noise",
    "channels_last_reason",
    "probe_seconds",
    "profile",
)
"""Settings that no update depends on; the noise itself is left out of the comparison."""

_FIGURES = ("kind", "step", "loss", "accuracy", "lr")
"""What of a line of ``metrics.jsonl`` is computed; the rest is time."""


def settings_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The settings that an update could depend on and that differ between two plans of one identity, in words.

    Plans are given as ``run.json`` holds them.
    """
    first, second = ({"trainer": plan["trainer"], **plan["performance"]} for plan in (one, other))
    for key, value in first.items():
        if key not in _IRRELEVANT and second.get(key) != value:
            yield f"{key}: {as_typed(value)}, {as_typed(second.get(key))}"


def is_one_plan(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two plans, as ``run.json`` holds them, ask for the same computation: one identity, equal settings."""
    identity = one.get("identity")
    return identity is not None and identity == other.get("identity") and not any(settings_apart(one, other))


def have_one_plan(one: Recipe, other: Recipe) -> bool:
    """Whether the finished runs of two recipes have one plan, pair by pair; a pair shares its seed."""
    return _all_pairs(one, other, lambda a, b: is_one_plan(_plan(a), _plan(b)))


def describe_same(grouping: Grouping) -> list[str]:
    """What is to be said of recipes that do not differ; empty where all do."""
    said = []
    for same, what in (
        (have_one_plan, "the same computation (one plan identity): what is varied between them changes no result, and"
                        " their difference is noise"),
        (_recorded_the_same, "equal in every figure that was recorded, bit by bit: what is varied between them had no"
                             " effect"),
    ):  # fmt: skip
        for group in _groups(grouping.recipes, same):
            labels = [recipe.label for recipe in group]
            said.append(f"{', '.join(labels[:-1])} and {labels[-1]} are {what}.")
    return said


def _groups(recipes: tuple[Recipe, ...], same: Callable[[Recipe, Recipe], bool]) -> list[list[Recipe]]:
    groups: list[list[Recipe]] = []
    for recipe in recipes:
        for group in groups:
            if same(group[0], recipe):
                group.append(recipe)
                break
        else:
            groups.append([recipe])
    return [group for group in groups if len(group) > 1]


def _recorded_the_same(one: Recipe, other: Recipe) -> bool:
    """Whether plans that differ came to the same figures; where settings alone differ, that is their purpose."""
    return _all_pairs(
        one,
        other,
        lambda a, b: (
            a.identity != b.identity
            and not any(settings_apart(_plan(a), _plan(b)))
            and bool(a.records)
            and _figures(a) == _figures(b)
        ),
    )


def _all_pairs(one: Recipe, other: Recipe, same: Callable[[CellResult, CellResult], bool]) -> bool:
    first, second = _by_block(one), _by_block(other)
    pairs = [(cell, second[block]) for block, cell in first.items() if block in second]
    return bool(pairs) and all(same(a, b) for a, b in pairs)


def _by_block(recipe: Recipe) -> dict[Block, CellResult]:
    return {block: cell for cell, block in zip(recipe.cells, recipe.blocks, strict=True) if cell.finished}


def _figures(cell: CellResult) -> object:
    assert cell.record is not None
    # as text, in which NaN equals NaN
    return repr((cell.record.metrics, [[record.get(key) for key in _FIGURES] for record in cell.records]))


def _plan(cell: CellResult) -> Mapping[str, Any]:
    assert cell.record is not None
    return cell.record.plan
