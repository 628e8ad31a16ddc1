"""The command that runs the winner of a search again, on seeds that had no part in selecting it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.compose import Composer
from runner.errors import RequestError, as_typed
from runner.report.cells import CellResult, SweepResults

FRESH_SEEDS = 5

_OF_A_PLACE = ("sweep", "seed", "hydra")


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
