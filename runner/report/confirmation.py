"""The winner of a search on seeds that had no part in selecting it: what it came to there, or the command for it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.compose import Composer
from runner.errors import RequestError, as_typed
from runner.records.sweep_cells import confirmation_folder
from runner.report.cells import CellResult, SweepResults
from runner.report.recipes import epsilon
from runner.report.search_records import Search

FRESH_SEEDS = 5

_FIGURES: dict[str, Callable[[CellResult], float | None]] = {
    "val_accuracy": lambda cell: cell.metric("val_accuracy"),
    "val_loss": lambda cell: cell.metric("val_loss"),
    # of training, as the study has them
    "seconds": lambda cell: next((one["seconds"] for one in reversed(cell.records) if one["kind"] == "train"), None),
    "samples_per_second": lambda cell: None if cell.record is None else cell.record.throughput.samples_per_second,
    "peak_bytes": lambda cell: None if cell.record is None else cell.record.memory.peak_bytes,
    "epsilon": epsilon,
}
"""What a search may be for, of a run."""

_OF_A_PLACE = ("sweep", "seed", "hydra")


@dataclass(frozen=True)
class Confirmed:
    """The runs of the winner on fresh seeds (``hydra.sweeper.confirm``), in the order of their seeds."""

    cells: tuple[CellResult, ...]
    objective: str

    @property
    def values(self) -> list[float]:
        """The objective of those that have ended as they should."""
        found = [_FIGURES[self.objective](cell) for cell in self.cells if cell.finished]
        return [value for value in found if value is not None and not math.isnan(value)]

    def tested(self, name: str) -> list[float]:
        """A metric of the test split of the same runs; empty where it was not measured."""
        found = [cell.metric(name) for cell in self.cells if cell.finished]
        return [value for value in found if not math.isnan(value)]


def confirmed(sweep: SweepResults, search: Search) -> Confirmed | None:
    """The runs of the best trial on fresh seeds; None where there are none."""
    best = search.best() if len(search.directions) == 1 else None
    if best is None or not search.objectives:
        return None
    start = confirmation_folder(best.number)
    cells = tuple(cell for cell in sweep.cells if cell.name.startswith(start))
    return Confirmed(cells, search.objectives[0]) if cells else None


def confirm_command(sweep: SweepResults, winner: CellResult) -> str | None:
    """The command line; None where the request of ``winner`` cannot be composed here, as without a plug-in of it."""
    lines = [f"{key}={value}" for key, value in winner.overrides.items() if key.partition(".")[0] not in _OF_A_PLACE]
    if "sweep" in winner.overrides:
        try:
            lines += _of_the_question(lines, winner)
        except RequestError:
            return None
    used = [int(seed) for cell in sweep.cells if (seed := cell.value("seed")) is not None and seed.isdigit()]
    first = max(used, default=-1) + 1
    seeds = ",".join(str(first + number) for number in range(FRESH_SEEDS))
    return shlex.join(["python", "-m", "runner", "--multirun", *lines, f"seed={seeds}"])


def _of_the_question(lines: Sequence[str], winner: CellResult) -> list[str]:
    """What the file of a question set besides the values that it varied: options first, then keys."""
    composer = Composer(caller=Path.cwd(), writes=False)
    composed = composer.compose(lines)
    chosen = {group: composed.hydra.runtime.choices.get(group) for group in winner.choices}
    groups = [f"{group}={as_typed(option)}" for group, option in winner.choices.items()
              if group not in _OF_A_PLACE and option is not None and chosen[group] != option]  # fmt: skip
    there: Any = OmegaConf.to_container(composer.compose([*lines, *groups]), resolve=False)
    plain = _leaves(there)
    keys = [
        f"{key}={as_typed(value)}"
        for key, value in _leaves(winner.config).items()
        if key.partition(".")[0] not in (*_OF_A_PLACE, "comparison") and plain.get(key) != value
    ]
    return [*groups, *keys]


def _leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        found |= _leaves(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found
