"""One cell of a sweep, in the process that was forked for it."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from runner.attempt import Attempt, attempt_run, record_failure
from runner.config.errors import RequestError
from runner.config.schema import RunConfig

OUTPUT_FILE = "output.log"
"""What a cell writes to standard output and standard error, in its folder."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell, composed; can be pickled."""

    number: int
    name: str
    """What was typed for it and differs from its neighbours."""
    config: RunConfig | RequestError
    """The typed configuration, or why there is none."""
    composed: DictConfig
    """The same as Hydra composed it, with Hydra's own part, and of no type that cannot be pickled."""
    sweep_dir: Path
    folder: Path
    """Of this cell."""
    callbacks: Callbacks
    """Hydra's, as the user configured them."""
    whitelist: Any
    """What Hydra may instantiate."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a cell runs; can be pickled."""

    working_dir: Path
    path: tuple[str, ...]
    """Where Python looks for modules."""
    environment: Mapping[str, str]
    cores: frozenset[int] | None
    """CPU cores that it may use; None for all."""


def run_forked(argument: tuple[Cell, Place]) -> Attempt:
    """Run a cell in this process, which has nothing else to do; what it says goes to its ``output.log``."""
    cell, place = argument
    os.environ.clear()
    os.environ.update(place.environment)
    os.chdir(place.working_dir)
    sys.path[:] = place.path
    if place.cores is not None:
        os.sched_setaffinity(0, place.cores)
    cell.folder.mkdir(parents=True, exist_ok=True)
    with (cell.folder / OUTPUT_FILE).open("ab", buffering=0) as output:
        for handle in (1, 2):
            os.dup2(output.fileno(), handle)
    # The cause of a segmentation fault is worth more than the fact.
    faulthandler.enable()
    return run_cell(cell)


def run_cell(cell: Cell) -> Attempt:
    """Run a cell with Hydra's own files, logging and callbacks around it."""
    setup_globals()
    found: list[Attempt] = []

    def job(composed: DictConfig) -> None:
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        found.append(run_recorded(cell.config, plain, Path(HydraConfig.get().runtime.output_dir), cell.sweep_dir))

    context = HydraContext(
        config_loader=None,  # type: ignore[arg-type]  # the cell is composed; nothing asks for it here
        callbacks=cell.callbacks,
        execution_whitelist=cell.whitelist,
    )
    ended = run_job(
        task_function=job,
        config=cell.composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
    )
    _ = ended.return_value  # raises what the job or a callback raised
    return found[0]


def run_recorded(config: RunConfig | RequestError, plain: dict[str, Any], run_dir: Path, sweep_dir: Path) -> Attempt:
    """Run a cell in its existing folder; a failure is in its ``run.json``."""
    attempt = attempt_run(config, plain, run_dir, sweep_dir)
    if attempt.error is not None:
        record_failure(run_dir, attempt)
    return attempt
