"""Hydra's sweeper for grids: every combination of the values, and all of it again for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from runner.internals.hydra_parts import BasicSweeper
from runner.records.halving_file import HALVING_FILE
from runner.records.sweep_cells import write_cells
from runner.sweeping.driver import SweepDriver
from runner.sweeping.halving import SuccessiveHalving
from runner.sweeping.launcher import ForkServerLauncher
from runner.sweeping.multirun_file import set_task, write_multirun
from runner.sweeping.random_trials import chosen_cells
from runner.sweeping.rounds import Job, Rounds
from runner.sweeping.selection_file import is_drawn


class GridSweeper(BasicSweeper):
    """Hydra's own grid with repeats.  The cells were made and checked before Hydra was called."""

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None,
        beside: Sequence[Sequence[str]] | None,
        seeds: Sequence[int] | None,
        halving: bool,
    ) -> None:
        """Of the keys of ``hydra.sweeper`` all but the first have been read with the request."""
        super().__init__(max_batch_size=max_batch_size, params=params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to a sweeper."""
        assert isinstance(task_function, SweepDriver)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._driver, self._request, self._context = task_function, task_function.request, hydra_context

    def sweep(self, arguments: list[str]) -> Any:
        """Launch every cell."""
        assert self.config is not None
        assert self.launcher is not None
        cells = [list(lines) for lines in self._request.cells_lines]
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        if is_drawn(folder):
            cells = chosen_cells(folder, cells)
        elif not self._request.until_decided:  # its cells are noted round by round
            write_cells(folder, dict(zip(self._request.cells_folders, cells, strict=True)))
        set_task(self.config, [*arguments, *self._request.deferred])
        write_multirun(folder, self.config)
        (folder / HALVING_FILE).unlink(missing_ok=True)  # of an earlier start; what counts of it is in the cells' files
        if self._request.halving:
            self._returned: list[Any] = []
            SuccessiveHalving(self._driver, self._launch).run()
            return self._returned
        if self._request.until_decided:
            self._returned = []
            Rounds(self._driver, self._launch, self._name_folder).run()
            return self._returned
        returns, begun = [], 0
        for batch in self.split_overrides_to_chunks(cells, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=begun))
            begun += len(batch)
        return returns

    def _launch(self, jobs: Sequence[Job]) -> None:
        """Launch cells whose numbers have gaps, where recipes have dropped out."""
        size = self.max_batch_size or len(jobs)
        for batch in (jobs[start : start + size] for start in range(0, len(jobs), size)):
            if isinstance(self.launcher, ForkServerLauncher):
                self._returned.append(self.launcher.launch_numbered(batch))
                continue
            assert self.launcher is not None
            for stretch in _stretches(batch):  # what Hydra's launchers take
                lines = [list(overrides) for _, overrides in stretch]
                self._returned.append(self.launcher.launch(lines, initial_job_idx=stretch[0][0]))

    def _name_folder(self, job: Job) -> str:
        """The folder of a cell from the sweep's, as its launcher will name it."""
        assert self.config is not None
        composed = self._context.config_loader.load_sweep_config(self.config, list(job[1]))
        with open_dict(composed):
            composed.hydra.job.num, composed.hydra.job.id = job[0], str(job[0])
        return Path(str(composed.hydra.sweep.subdir)).as_posix()


def _stretches(jobs: Sequence[Job]) -> list[list[Job]]:
    """``jobs`` cut where a number is missing."""
    cut: list[list[Job]] = []
    for job in jobs:
        if cut and cut[-1][-1][0] + 1 == job[0]:
            cut[-1].append(job)
        else:
            cut.append([job])
    return cut
