"""What a run has to know of the sweep that it is a cell of; whoever starts the cell finds it out and hands it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from runner.config.schema import RunConfig
from runner.privacy.accounting.stopping_draws import Draw
from runner.records.pruning_hook import PruningHook


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """A run's sweep; can be pickled."""

    folder: Path
    """Where the sweep writes."""
    identity: str | None = None
    """Of the sweep in the privacy ledger; None for a run without privacy."""
    draw: Draw | None = None
    """What was drawn for the sweep before its first trial; None where the best is accounted by composition."""
    learns: bool = False
    """Whether the settings of a private run may depend on the results of earlier cells of the sweep."""
    pruning: Callable[[], PruningHook] | None = None
    """Connects to the search that may end the run early; None where its evaluations are of no use there."""


FindContext = Callable[[RunConfig, DictConfig], SweepContext]
"""Finds the context of a cell from its checked configuration and from the whole one as Hydra composed it.

A function of a module, for it goes to the processes of cells.
"""
