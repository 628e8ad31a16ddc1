"""``cells.json``: the folders of a sweep's cells."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.disk.json_files import read_json
from runner.records.json_values import write_json
from runner.records.run_file import RUN_FILE

CELLS_FILE = "cells.json"

_CONFIRM = "confirm"
_DEEPEST = 8
"""Folders between a sweep and its cells."""


@dataclass(frozen=True)
class CellFolders:
    """The folders of runs below a sweep's, by their path from there."""

    cells: tuple[str, ...]
    strangers: tuple[str, ...]
    """Runs that are no cells of the sweep as it was last started: of a wider grid before it, or of something else."""


def confirmation_folder(trial: int, seed: int | str = "") -> str:
    """The folder, from that of a search, of the run that confirms ``trial`` on ``seed``; without one, how it begins."""
    return f"{_CONFIRM}/{trial}-seed-{seed}"


def is_confirmation(folder: str) -> bool:
    """Whether ``folder``, a path from that of a search, is that of a run on a fresh seed, and of no trial."""
    return folder.startswith(f"{_CONFIRM}/")


def write_cells(sweep_dir: Path, asked: Mapping[str, list[str] | None]) -> None:
    """Note what a sweep asks: ``asked`` is folder of each cell, from ``sweep_dir``, -> overrides; None if drawn."""
    write_json(sweep_dir / CELLS_FILE, {"cells": [{"folder": name, "overrides": asked[name]} for name in asked]})


def find_cells(sweep_dir: Path) -> CellFolders:
    """The runs below ``sweep_dir``.  Without a readable ``cells.json``, as of an older version, all are cells."""
    found = tuple(sorted(_runs_below(sweep_dir, sweep_dir))) if sweep_dir.is_dir() else ()
    asked = read_asked(sweep_dir)
    if asked is None:
        return CellFolders(found, ())
    return CellFolders(
        tuple(name for name in found if name in asked), tuple(name for name in found if name not in asked)
    )


def is_run(folder: Path) -> bool:
    """Whether a run has begun in ``folder``, or Hydra has prepared one."""
    return (folder / RUN_FILE).exists() or (folder / ".hydra").is_dir()


def _runs_below(folder: Path, sweep_dir: Path, depth: int = 0) -> Iterator[str]:
    """The outermost runs below ``folder``; what a run has in its own folder is its business."""
    with os.scandir(folder) as entries:
        inner = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    for path in inner:
        if is_run(path):
            yield path.relative_to(sweep_dir).as_posix()
        elif depth < _DEEPEST and not path.is_symlink():
            yield from _runs_below(path, sweep_dir, depth + 1)


def read_asked(sweep_dir: Path) -> dict[str, list[str] | None] | None:
    """What ``write_cells`` noted; None without a readable file."""
    try:
        found: Any = read_json(sweep_dir / CELLS_FILE)
        return {
            str(cell["folder"]): None if cell["overrides"] is None else [str(line) for line in cell["overrides"]]
            for cell in found["cells"]
        }
    except (OSError, ValueError, TypeError, KeyError):
        return None
