"""Hydra's sweeper for grids: every combination of the values, and all of it again for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from runner.config.request import cells_of
from runner.sweep_draws import is_drawn
from runner.sweeping.drawn_trials import chosen_cells


class GridSweeper(BasicSweeper):
    """Hydra's own grid with repeats.  The cells have been checked before Hydra was called, and are not once more."""

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None,
        beside: Sequence[Sequence[str]] | None,
        seeds: Sequence[int] | None,
    ) -> None:
        """``beside`` are further cells, ``seeds`` those of the repeats; None for the seed of each cell itself."""
        super().__init__(max_batch_size=max_batch_size, params=params)
        self._beside, self._seeds = beside or (), seeds

    def sweep(self, arguments: list[str]) -> Any:
        """Launch every cell."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        cells = cells_of(overrides, beside=self._beside, seeds=self._seeds)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        if is_drawn(folder):
            cells = chosen_cells(folder, cells)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        returns, begun = [], 0
        for batch in self.split_overrides_to_chunks(cells, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=begun))
            begun += len(batch)
        return returns
