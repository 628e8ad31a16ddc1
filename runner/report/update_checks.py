"""``same_update.json`` of a sweep: which cells were found to compute the same update, and what makes others differ.

``python -m runner compare`` writes it, because only computing tells; the report reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.untrusted.typed_values import check_types
from runner.disk.json_files import read_json
from runner.errors import RunError
from runner.records.json_values import write_json

CHECKS_FILE = "same_update.json"


@dataclass(frozen=True, kw_only=True)
class UpdateCheck:
    """Two cells whose plans claim the same mathematics, and one update of each on the same examples."""

    cells: tuple[str, str]
    settings: tuple[str, ...]
    """Performance settings in which they differ, each as ``key: one, other``."""
    difference: float | None
    """Largest relative difference in float64 of the gradient or of the weights' change; None when not computed."""
    own_difference: float | None
    """That of the gradient in the cells' own precision: rounding, where ``difference`` is nought."""
    equal: bool | None
    """Whether they compute the same update; None when that could not be found out."""
    causes: tuple[str, ...]
    """Kinds of layers without which the updates would be equal; of a check that was not made, why."""


def write_checks(sweep_dir: Path, checks: Sequence[UpdateCheck]) -> None:
    """Replace ``same_update.json``, atomically."""
    write_json(sweep_dir / CHECKS_FILE, list(checks))


def read_checks(sweep_dir: Path) -> list[UpdateCheck]:
    """The checks that were made of a sweep; empty when none was.

    Raises:
        RunError: the file is not what ``write_checks`` wrote.
    """
    path = sweep_dir / CHECKS_FILE
    if not path.exists():
        return []
    try:
        found: list[dict[str, Any]] = read_json(path)
        lists = ("cells", "settings", "causes")
        checks = [UpdateCheck(**one | {key: tuple(one[key]) for key in lists}) for one in found]
        for check in checks:
            check_types(check)
        return checks
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{CHECKS_FILE}: not a list of checks ({error})") from error


def describe_check(check: UpdateCheck) -> str:
    """A check in one sentence."""
    one, other = check.cells
    pair = f"Cells {one} and {other} ({'; '.join(check.settings) or 'the same settings'})"
    if check.equal is None:
        return f"{pair}: not checked, {', '.join(check.causes)}."
    own = "" if check.own_difference is None else f", {check.own_difference:.1g} in their own precision"
    if check.equal:
        return f"{pair} compute the same update: largest relative difference {check.difference:.1g} in float64{own}."
    because = (
        f"because of {' and '.join(check.causes)}"
        if check.causes
        else "for a reason that is neither BatchNorm nor dropout"
    )
    return (
        f"{pair} do not compute the same update: it differs by {check.difference:.1g} (relative, float64), {because}."
    )
