"""The runs of a sweep as arrays: recipes, independent repeats, and what is averaged within a repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from runner.report.cells import CellResult
from runner.report.decision_rule import Booleans
from runner.report.recipes import Block, Grouping
from runner.report.statistics import Floats

SPLITS = ("data.split_seed", "data.fold")
"""Keys that choose the split: repeats that share most of their training data, and so are no independent ones."""
SEEDS = ("seed", "privacy.unsafe_noise_seed")
"""Keys whose values make independent repeats."""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """The cells of each recipe [K, n, m]: n repeats, and within each m runs that are averaged."""

    names: tuple[tuple[str | None, ...], ...]
    """The values that make each repeat, in the order of the numbers."""
    keys: tuple[str, ...]
    """Whose values they are: seeds, or what chooses the split."""
    averaged: tuple[str, ...]
    """Keys that vary within a repeat."""
    cells: tuple[tuple[tuple[CellResult | None, ...], ...], ...]
    shared_training: float
    """Examples of a test part over those of training where the repeats are splits; 0 where they are seeds."""

    @property
    def are_splits(self) -> bool:
        """Whether the repeats are folds or splits of the same data."""
        return any(key in SPLITS for key in self.keys)

    def array(self, figure: Callable[[CellResult], float | None]) -> Floats:
        """``figure`` of each finished cell; NaN where there is none."""

        def of(cell: CellResult | None) -> float:
            value = figure(cell) if cell is not None and cell.finished else None
            return math.nan if value is None else value

        return np.array([[[of(cell) for cell in row] for row in recipe] for recipe in self.cells], float)

    def failed(self, metric: str) -> Booleans:
        """Cells that failed, or ended without a finite figure although others of the sweep have one."""
        return np.array(
            [[[cell is not None and lost(cell, metric) for cell in row] for row in recipe] for recipe in self.cells],
            bool,
        )

    def ended(self) -> Booleans:
        """[K, n]: whether every run of a recipe's repeat has ended, well or not."""
        there = [
            [all(cell is not None and not cell.unfinished for cell in row) for row in recipe] for recipe in self.cells
        ]
        return np.array(there, bool)


def lost(cell: CellResult, metric: str) -> bool:
    """Whether a run came to nothing: it failed, or its ``metric`` is not finite."""
    return cell.failed or (cell.finished and not math.isfinite(cell.metric(metric)))


def read_repeats(grouping: Grouping) -> Repeats:
    """Sort the cells of each recipe into independent repeats.

    Seeds are independent.  Where the split varies too, the splits are the repeats and seeds are averaged within each.
    Other keys that vary within recipes, learning rates say, are averaged within a repeat: runs of one seed share what
    the seed does.
    """
    crossed = grouping.crossed
    keys = tuple(key for key in crossed if key in SPLITS) or tuple(key for key in crossed if key in SEEDS)
    averaged = tuple(key for key in crossed if key not in keys)
    found: list[dict[tuple[Block, Block], CellResult]] = []
    for recipe in grouping.recipes:
        found.append({})
        for cell, block in zip(recipe.cells, recipe.blocks, strict=True):
            found[-1].setdefault((_some(block, crossed, keys), _some(block, crossed, averaged)), cell)
    names = sorted({repeat for cells in found for repeat, _ in cells}, key=_number)
    settings = [{setting for _, setting in cells} for cells in found if cells]
    shared = set.intersection(*settings) or set.union(*settings)
    within = [setting for setting in dict.fromkeys(key for cells in found for _, key in cells) if setting in shared]
    cells = tuple(tuple(tuple(cells.get((name, setting)) for setting in within) for name in names) for cells in found)
    shared_training = _shared_training(grouping) if any(key in SPLITS for key in keys) else 0.0
    return Repeats(names=tuple(names), keys=keys, averaged=averaged, cells=cells, shared_training=shared_training)


def _shared_training(grouping: Grouping) -> float:
    for cell in (cell for recipe in grouping.recipes for cell in recipe.finished):
        tested, trained = cell.images("test"), cell.images("train")
        if tested and trained:
            return tested / trained
        folds = cell.value("data.folds") if cell.value("data.fold") not in (None, "null") else None
        if folds is not None:
            return 1 / (int(folds) - 1)
    return 0.0


def _some(block: Block, crossed: Sequence[str], keys: Sequence[str]) -> Block:
    return tuple(value for key, value in zip(crossed, block, strict=True) if key in keys)


def _number(values: Block) -> tuple[tuple[float, str], ...]:
    """By number where a value is one, so that 10 follows 9."""
    return tuple((_float(value), value or "") for value in values)


def _float(value: str | None) -> float:
    try:
        return float(value or "")
    except ValueError:
        return math.inf
