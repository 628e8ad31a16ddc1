"""Successive halving over the epochs of a grid: every recipe trains as it would alone, and only the better go on.

A cell has its whole length, and so its whole schedule, from its first update; at a rung it is paused with a checkpoint,
and what is taken up again computes the bits of a run that was never paused.  What decides at a rung follows from the
cells' files alone, so that a sweep that is started again comes to the same end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from runner.config.request.halving import Rung, plan_rungs, recipes_of
from runner.config.words.pluralize import pluralize
from runner.errors import plainly
from runner.records.halving_file import Halving, read_halving, value_at, write_halving
from runner.records.pruning_hook import PruningHook
from runner.records.run_file import FINISHED, RunRecord
from runner.sweeping.cell_progress import read_cell_record
from runner.sweeping.driver import SweepDriver
from runner.sweeping.rounds import Job


@dataclass(frozen=True)
class Pause:
    """Ends a run for now after ``epoch``; implements ``PruningHook``."""

    epoch: int

    def is_hopeless(self, epoch: int, *, val_loss: float, val_accuracy: float) -> bool:
        """Whether the run has come to its rung."""
        return epoch >= self.epoch


def find_pause(sweep_dir: Path) -> Callable[[], PruningHook] | None:
    """What pauses a cell that is started now; None for one that is trained to its end.

    Raises:
        RunError: what the sweep has noted of its rungs is damaged.
    """
    halving = read_halving(sweep_dir)
    return None if halving is None or halving.until is None else functools.partial(Pause, halving.until)


class SuccessiveHalving:
    """Runs a grid rung by rung, and what is left to the end."""

    def __init__(self, driver: SweepDriver, launch: Callable[[Sequence[Job]], object]) -> None:
        """``launch`` runs cells until they pause or end."""
        request = driver.request
        self._driver, self._launch, self._lines = driver, launch, request.cells_lines
        self._folders = request.cells_folders
        self._recipes = recipes_of(request.cells_lines)
        self._begun: set[int] = set()
        """Cells that this start has handed to the launcher."""
        config = request.configs[0]
        assert config.trainer.epochs is not None
        self._state = Halving(
            monitor=config.trainer.monitor,
            epochs=config.trainer.epochs,
            rungs=plan_rungs(config, len(self._recipes)),
            until=None,
        )

    def run(self) -> None:
        """Run all cells to the first rung, those of the better recipes to the next, and the last ones to the end.

        The driver is told which were stopped.

        Raises:
            SystemExit: the sweep was interrupted; the cells under way have saved.
        """
        left = self._recipes
        for number, rung in enumerate(self._state.rungs, start=1):
            due = [cell for recipe in left for cell in recipe if self._is_due(cell, rung.epoch)]
            if due:
                words = f"rung {number} of {len(self._state.rungs)}: {pluralize(len(left), 'recipe')}"
                self._start(due, rung.epoch, f"{words} to epoch {rung.epoch}, of which {rung.keep} go on")
            missing = [cell for recipe in left for cell in recipe if self._value(cell, rung.epoch) is None]
            if missing:  # a worker of another launcher has gone, say: the same command goes on
                if all(map(self._has_ended, missing)):
                    self._driver.ending = "successive halving has stopped nothing: there are no validation figures"
                return
            left = self._keep_better(left, rung)
        cells = [cell for recipe in left for cell in recipe]
        self._start(cells, None, f"{pluralize(len(left), 'recipe')} to the end, {plainly(self._state.epochs)} epochs")
        self._tell(len(left))

    def _start(self, cells: Sequence[int], until: int | None, words: str) -> None:
        self._state = replace(self._state, until=until)
        write_halving(self._driver.folder, self._state)
        self._driver.display.begin_round(words)
        self._begun.update(cells)
        if cells:
            self._launch([(cell, tuple(self._lines[cell])) for cell in sorted(cells)])

    def _is_due(self, cell: int, epoch: int) -> bool:
        """Whether a cell is started for the rung at ``epoch``; a failed one is once, and the launcher may leave it."""
        record = self._record(cell)
        failed = record is not None and record.status == "failed"
        return cell not in self._begun if failed else self._value(cell, epoch) is None

    def _keep_better(self, recipes: Sequence[list[int]], rung: Rung) -> list[list[int]]:
        """The recipes that go on, in their order; the cells of the others are noted as stopped."""
        ranked = sorted(range(len(recipes)), key=lambda place: self._badness(recipes[place], rung.epoch))
        kept = {place for place in ranked[: rung.keep] if self._badness(recipes[place], rung.epoch) < math.inf}
        beaten = [cell for place, recipe in enumerate(recipes) if place not in kept for cell in recipe]
        # a cell that an earlier start has trained to its end was stopped by nobody
        stopped = {self._folders[cell]: rung.epoch for cell in beaten if not self._has_ended(cell)}
        self._state = replace(self._state, stopped={**self._state.stopped, **stopped})
        write_halving(self._driver.folder, self._state)
        return [recipe for place, recipe in enumerate(recipes) if place in kept]

    def _badness(self, recipe: Sequence[int], epoch: int) -> float:
        """Lower is better: the mean over the recipe's repeats; infinite where one of them has no figure."""
        values = [value for cell in recipe if (value := self._value(cell, epoch)) is not None]
        mean = fmean(values)
        if math.isnan(mean):
            return math.inf
        return mean if self._state.monitor == "val_loss" else -mean

    def _value(self, cell: int, epoch: int) -> float | None:
        return value_at(self._driver.folder / self._folders[cell], self._record(cell), epoch, self._state.monitor)

    def _has_ended(self, cell: int) -> bool:
        record = self._record(cell)
        return record is not None and record.status in (*FINISHED, "failed")

    def _record(self, cell: int) -> RunRecord | None:
        return read_cell_record(self._driver.folder / self._folders[cell])

    def _tell(self, left: int) -> None:
        if self._state.stopped:
            self._driver.ending = (
                f"successive halving: {len(self._recipes) - left} of {pluralize(len(self._recipes), 'recipe')} were"
                f" stopped early by {self._state.monitor}, at the epochs in halving.json and in the report"
            )
