"""One cell of a sweep, in the process that was forked for it."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from runner.config import store
from runner.config.schema import RunConfig
from runner.environment.text_encoding import escape_unencodable
from runner.errors import ExitCode, RequestError
from runner.execution.attempt import Attempt, attempt_run, record_failure
from runner.execution.sweep_context import FindContext
from runner.internals.hydra_parts import Callbacks
from runner.processes.fork_server import Ended
from runner.processes.signals import WATCHED

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
    callbacks: Callbacks
    """Hydra's, as the user configured them."""
    find_context: FindContext
    """What a run has to know of its sweep."""

    @property
    def folder(self) -> Path:
        """Where the cell writes."""
        return Path(self.composed.hydra.runtime.output_dir)

    @property
    def sweep_dir(self) -> Path:
        """Where the sweep writes."""
        return Path(self.composed.hydra.sweep.dir)

    @property
    def label(self) -> str:
        """What people know the cell by: its folder, from the sweep's, its number unless another name was asked for."""
        folder, sweep = self.folder.absolute(), self.sweep_dir.absolute()
        return folder.relative_to(sweep).as_posix() if folder.is_relative_to(sweep) else str(self.number)


def plain_types(composed: DictConfig, hydra: DictConfig) -> DictConfig:
    """``composed`` and Hydra's part of it without the types of the typed root, which cannot be pickled."""
    keys = [str(key) for key in composed if key != "hydra"]
    values: Any = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys), resolve=False)
    return OmegaConf.create({**values, "hydra": hydra})


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a cell runs; can be pickled."""

    working_dir: Path
    path: tuple[str, ...]
    """Where Python looks for modules."""
    environment: Mapping[str, str]
    cores: frozenset[int] | None
    """CPU cores that it may use; None for all."""
    slot: int | None
    """Which of the cells at a time it is, from 0; None where there is one at a time."""

    @classmethod
    def here(cls, cores: frozenset[int] | None = None, slot: int | None = None) -> Place:
        """The place of this process."""
        return cls(working_dir=Path.cwd(), path=tuple(sys.path), environment=dict(os.environ), cores=cores, slot=slot)


def run_forked(argument: tuple[Cell, Place]) -> Attempt:
    """Run a cell in this process, which has nothing else to do; what it says goes to its ``output.log``."""
    cell, place = argument
    os.environ.clear()
    os.environ.update(place.environment)
    os.chdir(place.working_dir)
    sys.path[:] = place.path
    if place.cores is not None:
        os.sched_setaffinity(0, place.cores)
    if place.slot is not None:
        _see_one_gpu(cell.config, place.slot)
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
        with (cell.folder / OUTPUT_FILE).open("ab", buffering=0) as output:
            for handle in (1, 2):
                os.dup2(output.fileno(), handle)
    except OSError as error:  # a full disk, say, or a file of that name
        where = error.filename or cell.folder
        return Attempt(exit_code=ExitCode.FAILED, error=f"{where}: cannot be written ({error.strerror})")
    escape_unencodable()
    # The cause of a segmentation fault is worth more than the fact.
    faulthandler.enable()
    return run_cell(cell)


def _see_one_gpu(config: RunConfig | RequestError, slot: int) -> None:
    """Deal the GPUs out to cells that run side by side and take one each; the first would get all of them otherwise."""
    if isinstance(config, RequestError) or config.hardware.processes != 1:
        return
    import torch

    # asks the driver's management library: no context is opened on any of them
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [*map(str, range(torch.cuda.device_count()))] if named is None else named.split(",")
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]


def run_cell(cell: Cell) -> Attempt:
    """Run a cell with Hydra's own files, logging and callbacks around it."""
    setup_globals()
    found: list[Attempt] = []

    def job(composed: DictConfig) -> None:
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        attempt = attempt_run(cell.config, plain, run_dir, lambda config: cell.find_context(config, cell.composed))
        if attempt.error is not None:
            record_failure(run_dir, attempt)
        found.append(attempt)

    context = HydraContext(
        config_loader=None,  # type: ignore[arg-type]  # the cell is composed; nothing asks for it here
        callbacks=cell.callbacks,
        execution_whitelist=store.whitelist(),
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


def killed(cell: Cell, ended: Ended) -> Attempt:
    """How a cell ended whose process went without a word."""
    if -ended.exit_code in WATCHED:  # before the run listened
        return Attempt(exit_code=ExitCode.INTERRUPTED, cut_short=True)
    how = f"was ended by {signal.Signals(-ended.exit_code).name}" if ended.exit_code < 0 else "ended too early"
    error = f"the process of the cell {how}; see {cell.folder.name}/{OUTPUT_FILE}"
    return Attempt(exit_code=ExitCode.FAILED, error=error)
