"""A grid that runs until its question is decided: rounds of paired seeds, with a planned look after each.

Nothing is kept of a look.  What it found follows from the cells' files, and a cell that has finished does not change:
a sweep that is started again comes to the same looks, on the same data, with the same outcome.  The number of a cell is
that of a grid on all seeds, so that it names the same recipe and seed whatever the looks found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runner.config.looks import plan_looks
from runner.config.schema import RunConfig
from runner.config.words.pluralize import pluralize
from runner.errors import RequestError, as_typed, plainly
from runner.records.progress import duration
from runner.records.run_file import FINISHED, RunRecord
from runner.records.sweep_cells import read_asked, write_cells
from runner.sweeping.cell_progress import read_cell_record
from runner.sweeping.driver import SweepDriver
from runner.sweeping.earlier_cells import earlier_config
from runner.sweeping.round_time import RoundTime

if TYPE_CHECKING:
    from runner.sweeping.finish import Look

Job = tuple[int, tuple[str, ...]]
"""Number and overrides of a cell."""

_UNDER_WAY = ("running", "interrupted")
"""Statuses of a cell that was begun and has not come to its end."""


class Rounds:
    """Runs the cells that the question of a grid needs, and no others.

    A *column* is a cell of the first seed and its repeats; a recipe has several where another key is crossed with it.
    """

    def __init__(
        self, driver: SweepDriver, launch: Callable[[Sequence[Job]], object], name_folder: Callable[[Job], str]
    ) -> None:
        """``launch`` runs cells to their ends; ``name_folder`` finds the folder of one, as a path from the sweep's."""
        request = driver.request
        assert request.seeds is not None
        assert request.hydra is not None
        self._driver, self._request, self._launch, self._name_folder = driver, request, launch, name_folder
        self._first_seed = request.seeds[0]
        self._columns = len(request.cells_lines) // len(request.seeds)
        comparison = request.configs[0].comparison
        self._looks = plan_looks(comparison.max_seeds)
        self._max_hours = comparison.max_hours
        self._folders = dict(enumerate(request.cells_folders))
        at_a_time = request.hydra.launcher.get("n_jobs")
        self._time = RoundTime(at_a_time=max(1, at_a_time or 1), columns=self._columns)
        self._ended: set[int] = set()
        """Numbers of the cells that this start has brought to their ends, or found there."""
        self._look: Look | None = None
        """The latest."""

    def run(self) -> None:
        """Run rounds until a look decides, or the next round would pass a limit; the driver is told why it ended.

        Raises:
            RequestError: the question does not fit the sweep, or an earlier start asked another one.
            RunError: a cell's file is damaged.
            SystemExit: the sweep was interrupted; the cells under way have saved.
        """
        self._refuse_other_question()
        self._time.resume(self._records(range(len(self._folders))))
        columns, upto = list(range(self._columns)), self._looks[0]
        while (fresh := self._fresh(columns, upto)) and self._may_begin(fresh):
            self._write_cells()
            self._driver.display.begin_round(self._words(upto))
            if not self._run_round(fresh):
                return
            self._look = self._driver.look_at_results([self._folders[number] for number in sorted(self._ended)])
            decision = self._look.decision
            if decision.decided:
                return
            if decision.next_look is None:
                self._end_undecided(f"comparison.max_seeds={upto}")
                return
            known = {folder: number for number, folder in self._folders.items()}
            columns, upto = sorted({known[name] % self._columns for name in self._look.folders}), decision.next_look

    def _refuse_other_question(self) -> None:
        """Refuse to change the question between looks: the level of each was planned with the first."""
        asked = dataclasses.asdict(self._request.configs[0].comparison)
        for name in self._folders.values():
            earlier = earlier_config(self._driver.folder / name)
            for key, before in ({} if earlier is None else dataclasses.asdict(earlier.comparison)).items():
                if key != "max_hours" and before != asked[key]:
                    expected = f"{as_typed(before)}, as {self._driver.folder} began, or another hydra.sweep.dir"
                    raise RequestError(f"comparison.{key}", as_typed(asked[key]), expected)

    def _fresh(self, columns: Sequence[int], upto: int) -> list[int]:
        """Of the cells of ``columns`` on the first ``upto`` seeds, a seed after the other, those still to be run."""
        fresh = [number for number in self._numbers(columns, upto) if number not in self._ended]
        new = [number for number in fresh if number not in self._folders]
        self._folders |= {number: self._name_folder(self._job(number)) for number in new}
        self._time.resume(self._records(new))
        return fresh

    def _run_round(self, numbers: Sequence[int]) -> bool:
        """Run cells to their ends; whether there is something to look at afterwards."""
        if self._look is None and self._max_hours is not None:
            # the first seed tells how long the others would take
            pilot, numbers = numbers[: self._columns], numbers[self._columns :]
            if not self._run(pilot) or not self._may_begin(numbers):
                return False
        # what kept every cell from a result would keep the next ones
        return self._run(numbers) and any(
            record.status in FINISHED for record in self._records(sorted(self._ended)).values()
        )

    def _run(self, numbers: Sequence[int]) -> bool:
        """Run cells; whether all have ended, which they have not where a worker of another launcher has gone, say."""
        with self._time.measured(lambda: self._records(numbers)):
            self._launch([self._job(number) for number in numbers])
        records = self._records(numbers)
        self._ended |= {number for number, record in records.items() if record.status not in _UNDER_WAY}
        return self._ended.issuperset(numbers)

    def _numbers(self, columns: Sequence[int], upto: int) -> list[int]:
        return [row * self._columns + column for row in range(upto) for column in columns]

    def _job(self, number: int) -> Job:
        column, seed = number % self._columns, self._first_seed + number // self._columns
        own = f"seed={self._first_seed}"
        return number, tuple(f"seed={seed}" if line == own else line for line in self._request.cells_lines[column])

    def _config(self, number: int) -> RunConfig:
        column, seed = number % self._columns, self._first_seed + number // self._columns
        return dataclasses.replace(self._request.configs[column], seed=seed)

    def _records(self, numbers: Sequence[int]) -> dict[int, RunRecord]:
        """Number -> record of those cells that have one."""
        found = {number: read_cell_record(self._driver.folder / self._folders[number]) for number in numbers}
        return {number: record for number, record in found.items() if record is not None}

    def _write_cells(self) -> None:
        """Note the cells so far, and those of later rounds that an earlier start of the sweep has noted."""
        sweep_dir = self._driver.folder
        asked: dict[str, list[str] | None] = {
            folder: list(self._job(number)[1]) for number, folder in sorted(self._folders.items())
        }
        possible = {self._job(number)[1] for number in self._numbers(range(self._columns), self._looks[-1])}
        for folder, lines in (read_asked(sweep_dir) or {}).items():
            if lines is not None and tuple(lines) in possible:
                asked.setdefault(folder, lines)
        write_cells(sweep_dir, asked)

    def _may_begin(self, numbers: Sequence[int]) -> bool:
        """Whether the limits leave room for these cells; if not, the driver is told which one."""
        # the cells before the first look have been admitted with the request
        why = self._beyond_hours(numbers) or (None if self._look is None else self._beyond_budget(numbers))
        if why is not None:
            self._end_undecided(why)
        return why is None

    def _beyond_hours(self, numbers: Sequence[int]) -> str | None:
        if self._max_hours is None or self._records(numbers):
            return None  # a round that was begun by an earlier start is brought to its end
        needed = self._time.predict(numbers)
        if needed is None or self._time.spent + needed <= 3600 * self._max_hours:
            return None
        return (
            f"{pluralize(len(numbers), 'further cell')} would take about {duration(needed)} beside the"
            f" {duration(self._time.spent)} so far, and pass comparison.max_hours={plainly(self._max_hours)}"
        )

    def _beyond_budget(self, numbers: Sequence[int]) -> str | None:
        # what an earlier start has begun stands in the ledger
        new = [number for number in numbers if not (self._driver.folder / self._folders[number]).exists()]
        private = [config for config in map(self._config, new) if config.privacy.enabled]
        if not private or self._driver.affords(private):
            return None
        limit = plainly(private[0].privacy.sweep_epsilon)
        return f"{pluralize(len(private), 'further private cell')} would pass privacy.sweep_epsilon={limit}"

    def _end_undecided(self, why: str) -> None:
        seeds = pluralize(1 if self._look is None else self._look.decision.look, "seed")
        self._driver.ending = f"the sweep has ended undecided after {seeds} a recipe: {why}"

    def _words(self, upto: int) -> str:
        seeds = pluralize(upto, "seed")
        if self._look is None:
            return f"round 1, to {seeds} a recipe, then a look"
        labels = self._look.decision.in_question
        recipes = f"{pluralize(len(labels), 'recipe')} in question ({', '.join(labels)})"
        return f"round {self._looks.index(upto) + 1}, {recipes}, to {seeds}"
