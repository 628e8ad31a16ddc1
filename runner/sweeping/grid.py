"""Hydra's sweeper for grids: every combination of the values, and all of it again for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from runner.internals.hydra_parts import BasicSweeper
from runner.records.sweep_cells import write_cells
from runner.sweeping.driver import SweepDriver
from runner.sweeping.random_trials import chosen_cells
from runner.sweeping.selection_file import is_drawn


class GridSweeper(BasicSweeper):
    """Hydra's own grid with repeats.  The cells were made and checked before Hydra was called."""

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None,
        beside: Sequence[Sequence[str]] | None,
        seeds: Sequence[int] | None,
    ) -> None:
        """Of the keys of ``hydra.sweeper`` all but the first have been read with the request."""
        super().__init__(max_batch_size=max_batch_size, params=params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to a sweeper."""
        assert isinstance(task_function, SweepDriver)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._request = task_function.request

    def sweep(self, arguments: list[str]) -> Any:
        """Launch every cell."""
        assert self.config is not None
        assert self.launcher is not None
        cells = [list(lines) for lines in self._request.cells_lines]
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        if is_drawn(folder):
            cells = chosen_cells(folder, cells)
        else:
            write_cells(folder, dict(zip(self._request.cells_folders, cells, strict=True)))
        with read_write(self.config.hydra.overrides):
            self.config.hydra.overrides.task = [*arguments, *self._request.deferred]
        OmegaConf.save(self.config, folder / "multirun.yaml")
        returns, begun = [], 0
        for batch in self.split_overrides_to_chunks(cells, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=begun))
            begun += len(batch)
        return returns
