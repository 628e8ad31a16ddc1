"""The context of one cell of a sweep, read from the folder of the sweep and from what Hydra composed for the cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from runner.config.request.request import GRID
from runner.config.request.search_config import SWEEPER
from runner.config.schema import RunConfig
from runner.errors import RequestError
from runner.execution.sweep_context import SweepContext
from runner.records.pruning_hook import PruningHook
from runner.sweeping.halving import find_pause
from runner.sweeping.privacy_file import identify_sweep
from runner.sweeping.selection_file import is_drawn, read_draw


def find_context(config: RunConfig, whole: DictConfig) -> SweepContext:
    """The context of the cell ``config``; ``whole`` is the same with Hydra's own part.

    Raises:
        RequestError: the sweep began with drawn trials and goes on without, or its pruner would choose by private data.
        RunError: what the folder of the sweep says is damaged.
    """
    folder, sweeper = Path(whole.hydra.sweep.dir), whole.hydra.sweeper
    private = config.privacy.enabled
    pruning: Callable[[], PruningHook] | None = None
    # of sweepers that are not the runner's own anything may be expected
    learns = private and (sweeper._target_ != GRID or config.comparison.until == "decided")
    if sweeper._target_ == SWEEPER:
        from runner.search.trial_pruning import find_pruning, settings_learn

        pruning = find_pruning(config, whole)
        learns = private and settings_learn(sweeper)
    elif sweeper._target_ == GRID and sweeper.get("halving"):
        pruning = find_pause(folder)
    draw = read_draw(folder) if config.privacy.selection == "random_stopping" else None
    if draw is None and is_drawn(folder):
        raise RequestError("privacy.selection", config.privacy.selection, f"random_stopping, as {folder} began")
    identity = identify_sweep(folder) if private else None
    return SweepContext(folder=folder, identity=identity, draw=draw, learns=learns, pruning=pruning)
