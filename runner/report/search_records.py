"""A search by its ``trials.csv``: what each trial tried and found, and which parameters mattered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from runner.config.untrusted.foreign_yaml import load_plain
from runner.disk.files import ordinary
from runner.errors import RunError
from runner.records.csv_table import from_csv
from runner.records.sweep_table import TRIALS_FILE
from runner.report.cells import SweepResults

if TYPE_CHECKING:
    from runner.report.search_importance import Importances

RESULTS_FILE = "optimization_results.yaml"
FEWEST = 20
"""Completed trials below which importances are noise."""


@dataclass(frozen=True)
class Trial:
    """One row."""

    number: int
    state: str
    """Optuna's word: COMPLETE, PRUNED, FAIL, RUNNING, WAITING."""
    values: tuple[float, ...]
    """One an objective; empty for a trial that gave none."""
    params: dict[str, str]
    """Parameter -> value as written."""
    allowed: bool
    """Whether it kept the constraints of the search."""
    folder: str
    """Of its run, from that of the search; empty where the table does not say."""


@dataclass(frozen=True)
class Search:
    """All trials of a search."""

    trials: tuple[Trial, ...]
    directions: tuple[str, ...]
    """``minimize`` or ``maximize`` for each objective."""
    objectives: tuple[str, ...]
    """What was searched for, by the names of ``hydra.sweeper.objectives``; empty in a table of another program."""

    def is_accuracy(self, objective: int) -> bool:
        """Whether an objective is a share, shown in percent."""
        return bool(self.objectives) and self.objectives[objective].endswith("accuracy")

    @cached_property
    def complete(self) -> tuple[Trial, ...]:
        """The trials that gave a value."""
        return tuple(trial for trial in self.trials if trial.state == "COMPLETE" and trial.values)

    def best(self, objective: int = 0) -> Trial | None:
        """The best trial by one objective that keeps the constraints; None when none did."""
        pick = max if self.directions[objective] == "maximize" else min
        return pick(self._allowed, key=lambda trial: trial.values[objective], default=None)

    @property
    def ties(self) -> tuple[Trial, ...]:
        """The trials that reached the best value of the first objective, the best itself included."""
        best = self.best()
        return () if best is None else tuple(one for one in self._allowed if one.values[0] == best.values[0])

    def ranked(self) -> list[Trial]:
        """All trials, the best by the first objective first; those that broke a constraint or gave no value last."""
        sign = -1.0 if self.directions[0] == "maximize" else 1.0
        good = sorted(self._allowed, key=lambda trial: (sign * trial.values[0], trial.number))
        return [*good, *(trial for trial in self.trials if trial not in good)]

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The trials that keep the constraints and that no other such beats in all objectives."""
        signs = [-1.0 if direction == "maximize" else 1.0 for direction in self.directions]
        points = [tuple(sign * value for sign, value in zip(signs, t.values, strict=True)) for t in self._allowed]
        return tuple(
            trial
            for trial, point in zip(self._allowed, points, strict=True)
            if not any(rival != point and all(a <= b for a, b in zip(rival, point, strict=True)) for rival in points)
        )

    def importances(self, objective: int = 0) -> Importances | None:
        """How much each parameter mattered; None below ``FEWEST`` completed trials, or if fewer than two varied."""
        names = [name for name in self.varied if all(name in trial.params for trial in self.complete)]
        if len(self.complete) < FEWEST or len(names) < 2:
            return None

        # Optuna, which an ordinary report does without
        from runner.report.search_importance import importances_of

        figures = [trial.values[objective] for trial in self.complete]
        params = [{name: trial.params[name] for name in names} for trial in self.complete]
        return importances_of(params, figures, direction=self.directions[objective])

    @property
    def _allowed(self) -> list[Trial]:
        return [trial for trial in self.complete if trial.allowed]

    @property
    def varied(self) -> list[str]:
        """Every parameter that differs between trials."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.params)
        return [name for name in names if len({trial.params.get(name) for trial in self.trials}) > 1]


def read_search(sweep: SweepResults) -> Search | None:
    """The search whose folder this is; None when it is a grid.

    Raises:
        RunError: ``trials.csv``, or ``optimization_results.yaml`` beside it, is not what a search leaves.
    """
    path = sweep.folder / TRIALS_FILE
    if not path.exists():
        return None
    try:
        trials = tuple(_trial(row) for row in from_csv(ordinary(path).read_bytes().decode()))
        results = load_plain(sweep.folder / RESULTS_FILE, "report")
        directions = tuple(results["directions"])
        if not directions or not set(directions) <= {"minimize", "maximize"}:
            raise ValueError("no directions to minimize or maximize")
        if any(len(trial.values) not in (0, len(directions)) for trial in trials):
            raise ValueError("trials with another number of values than directions")
        objectives = tuple(map(str, results.get("objectives", ())))
        if objectives and len(objectives) != len(directions):
            raise ValueError("another number of objectives than directions")
        return Search(trials, directions, objectives)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{TRIALS_FILE} and {RESULTS_FILE}: not of a search ({error})") from error


def _trial(row: dict[str, str]) -> Trial:
    columns = [key for key in row if key == "value" or key.startswith("values_")]
    texts = [row[key] for key in columns]
    values = tuple(float(text) for text in texts) if all(texts) else ()
    return Trial(
        number=int(row["number"]),
        state=row["state"],
        values=values if all(math.isfinite(value) for value in values) else (),
        params={key.removeprefix("params_"): row[key] for key in row if key.startswith("params_") and row[key]},
        allowed=not any(float(row[key] or 0) > 0 for key in row if key.startswith("system_attrs_constraints:")),
        folder=row.get("user_attrs_folder", ""),
    )
