"""What it spends to publish a run of the recommended recipe: more than its own epsilon, for it was chosen among all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.config.words.pluralize import pluralize
from runner.disk.json_files import read_json
from runner.errors import RunError
from runner.privacy.accounting.privacy_text import delta_text, epsilon_text
from runner.report.cells import SweepResults
from runner.report.recipes import Grouping, Recipe, epsilon, list_labels, void

PRIVACY_FILE = "privacy.json"


def read_spending(folder: Path) -> dict[str, Any]:
    """What ``privacy.json`` of a sweep says; empty where there is none.

    Raises:
        RunError: it is damaged.
    """
    path = folder / PRIVACY_FILE
    if not path.exists():
        return {}
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise damaged(error) from error
    return found


def damaged(error: Exception) -> RunError:
    """The error of a ``privacy.json`` that holds something else than it should."""
    return RunError(f"{PRIVACY_FILE}: not a record of what was spent ({error})")


def describe_publishing(sweep: SweepResults, recipe: Recipe, grouping: Grouping) -> str | None:
    """A sentence on publishing a run of ``recipe`` that was chosen by this comparison; None where no recipe is private.

    The choice has looked at every private run, so it spends what all of them compose to, whichever is chosen; and at
    runs without privacy, which no epsilon covers.

    Raises:
        RunError: ``privacy.json`` is damaged.
    """
    private = [one for one in grouping.recipes if one.measured(epsilon)]
    if not private or len(sweep.cells) < 2:
        return None
    if recipe in private:
        return _price(sweep, recipe, f"a run of {recipe.label}")
    other = _price(sweep, private[0], f"one of {list_labels([one.label for one in private])}", alone=False)
    return f"Publishing a run of {recipe.label} is covered by no ε. {other}"


def _price(sweep: SweepResults, recipe: Recipe, what: str, *, alone: bool = True) -> str:
    own = max(recipe.measured(epsilon)) if alone else None
    spending, names = read_spending(sweep.folder), {cell.name for cell in recipe.cells}
    try:
        ordinary = int(spending.get("cells_without_privacy", 0))
        every = spending.get("data", [])
        for data in every:
            private = [cell for cell in data["cells"] if cell.get("private", cell["epsilon"] is not None)]
            here = len(every) == 1 or names & {cell["cell"] for cell in private}
            if here and data["publish_all"] is not None:
                together = data["publish_all"] | ({"epsilon": None} if any(map(void, sweep.cells)) else {})
                return _sentence(together, what, own=own, private=len(private), ordinary=ordinary)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(error) from error
    return f"What publishing {what} spends is not known: {PRIVACY_FILE} says so at the sweep's end."


def _sentence(together: dict[str, Any], what: str, *, own: float | None, private: int, ordinary: int) -> str:
    besides = f" and at {ordinary} without privacy, which no ε covers" if ordinary else ""
    looked = f"choosing it looked at {pluralize(private, 'private run')}{besides}"
    if together["epsilon"] is None:
        return f"No ε is known for publishing {what}: {looked}, some of them void."
    spent = f"ε = {epsilon_text(together['epsilon'])} at δ = {delta_text(together['delta'])}"
    alone = f", not the {epsilon_text(own)} of a run alone" if own is not None and private > 1 else ""
    return f"Publishing {what} spends {spent}{alone}: {looked}."
