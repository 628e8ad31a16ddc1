"""Hydra's launcher for sweeps on this machine: a process a cell, ``n_jobs`` of them at a time.

Hydra's own launcher runs every cell in the driver, where one that crashes ends them all, and where the next one finds
its random state, its peak of memory and its tracker.  Here the driver composes and watches, and imports no torch.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from runner.config.schema import RunConfig
from runner.environment.launchers import launched
from runner.errors import ExitCode, RequestError
from runner.execution.attempt import Attempt, record_failure
from runner.processes.signals import signals_forwarded
from runner.records.run_file import FINISHED
from runner.sweeping.cell import Cell, Place, killed, plain_types, run_cell, run_forked
from runner.sweeping.cell_progress import failed_before, read_cell_record
from runner.sweeping.driver import SweepDriver
from runner.sweeping.earlier_cells import finished_attempts, refuse_other_config

_LOOK_SECONDS = 0.5
"""Time between two looks at the cells under way."""

_Job = tuple[int, tuple[str, ...]]
"""Number and overrides of a cell."""


class ForkServerLauncher(Launcher):
    """Starts each cell in a process forked from one that has imported torch."""

    def __init__(self, n_jobs: int) -> None:
        """``n_jobs`` is the number of cells at a time, which share the machine's cores evenly."""
        self._slots = n_jobs
        self._latest: tuple[_Job, Cell] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to a launcher."""
        assert isinstance(task_function, SweepDriver)
        self._sweep, self._context, self._config = task_function, hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the cells and return how each ended, in their order.

        Raises:
            RequestError: a folder holds a cell of another recipe.
            SystemExit: the sweep was interrupted; the cells under way have saved.
        """
        return self.launch_numbered(list(enumerate(map(tuple, job_overrides), start=initial_job_idx)))

    def launch_numbered(self, jobs: Sequence[_Job]) -> Sequence[JobReturn]:
        """The same for cells whose numbers do not follow each other; raises as ``launch`` does."""
        setup_globals()
        self._configure_log()
        self._sweep.folder.mkdir(parents=True, exist_ok=True)
        if launched():
            attempts = dict(self._run_in_step(jobs))
        else:
            attempts = self._find_earlier_attempts(jobs)
            attempts |= self._run_apart([job for job in jobs if job[0] not in attempts])
        return [_job_return(overrides, attempts[number]) for number, overrides in jobs]

    def _configure_log(self) -> None:
        hydra = self._config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose, execution_whitelist=self._context.execution_whitelist)

    def _run_in_step(self, jobs: Sequence[_Job]) -> Iterator[tuple[int, Attempt]]:
        """In this process, which torchrun started as the first of several: the others follow each cell."""
        for job in jobs:
            cell = self._compose(job)
            self._sweep.begin(cell)
            attempt = run_cell(cell)
            self._configure_log()
            self._sweep.end(cell, attempt)
            if attempt.exit_code == ExitCode.INTERRUPTED:
                raise SystemExit(ExitCode.INTERRUPTED)
            yield cell.number, attempt

    def _find_earlier_attempts(self, jobs: Sequence[_Job]) -> dict[int, Attempt]:
        """What an earlier start of the sweep has settled: finished cells, and failed ones that nobody wants again."""
        if not any(path.is_dir() for path in self._sweep.folder.iterdir()):
            return {}
        earlier_attempts: dict[int, Attempt] = {}
        completed: list[Cell] = []
        for job in jobs:
            cell = self._compose(job)
            if not cell.folder.exists() or isinstance(cell.config, RequestError):
                continue
            refuse_other_config(cell.folder, cell.config, self._sweep.request.varied)
            record = read_cell_record(cell.folder)
            if record is not None and record.status in FINISHED:
                completed.append(cell)
            elif record is not None and failed_before(record) and not cell.config.retry_failed:
                earlier_attempts[cell.number] = Attempt(exit_code=ExitCode.FAILED, error=record.error)
                self._sweep.skip(cell, earlier_attempts[cell.number])
        for cell, attempt in zip(completed, self._finished(completed), strict=True):
            earlier_attempts[cell.number] = attempt
            self._sweep.skip(cell, attempt)
        return earlier_attempts

    def _finished(self, cells: Sequence[Cell]) -> list[Attempt]:
        """How cells ended that were completed earlier; one process looks at the data and the plans of all of them."""
        if not cells:
            return []
        asked = [(cell.config, cell.folder) for cell in cells if not isinstance(cell.config, RequestError)]
        return self._sweep.server.call(finished_attempts, asked)

    def _run_apart(self, jobs: Sequence[_Job]) -> dict[int, Attempt]:
        """A process a cell, as many at a time as there are slots."""
        waiting, free = deque(jobs), deque(range(self._slots))
        running: dict[int, tuple[Cell, int]] = {}
        attempts: dict[int, Attempt] = {}
        server = self._sweep.server
        # they save and end, and no further one is started
        with signals_forwarded(server.signal) as forwarding:
            while True:
                while waiting and free and forwarding.sent is None:
                    cell, slot = self._compose(waiting.popleft()), free.popleft()
                    self._sweep.begin(cell)
                    place = Place.here(_share(slot, self._slots), slot if self._slots > 1 else None)
                    running[server.start(run_forked, (cell, place))] = cell, slot
                    # what was heard while the cell was composed, or the server imported torch, has not reached it
                    forwarding.repeat()
                if not running:
                    break
                ended = server.wait(_LOOK_SECONDS)
                if ended is None:
                    self._sweep.refresh()
                    continue
                cell, slot = running.pop(ended.pid)
                free.append(slot)
                if ended.returned:
                    attempt = ended.value
                elif forwarding.sent is not None:
                    attempt = Attempt(exit_code=ExitCode.INTERRUPTED)
                else:
                    attempt = killed(cell, ended)
                    if attempt.error is not None:
                        record_failure(cell.folder, attempt)
                attempts[cell.number] = attempt
                self._sweep.end(cell, attempt)
                if attempt.exit_code == ExitCode.INTERRUPTED:
                    # Somebody stopped this cell alone: that ends the sweep, as it would without processes of their own.
                    forwarding.ask_to_end()
        if forwarding.sent is not None:
            raise SystemExit(ExitCode.INTERRUPTED)
        return attempts

    def _compose(self, job: _Job) -> Cell:
        # A search launches one cell at a time, which is looked at and then started.
        if self._latest is None or self._latest[0] != job:
            self._latest = job, self._compose_anew(*job)
        return self._latest[1]

    def _compose_anew(self, number: int, overrides: Sequence[str]) -> Cell:
        composed = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(composed):
            composed.hydra.job.id = str(number)
        config: RunConfig | RequestError
        try:
            config = self._sweep.load(composed, number)
        except RequestError as error:
            config = error
        return Cell(
            number=number,
            name=self._sweep.name_of(overrides),
            config=config,
            composed=plain_types(composed, composed.hydra),
            callbacks=self._context.callbacks,
            find_context=self._sweep.find_context,
        )


def _share(slot: int, slots: int) -> frozenset[int] | None:
    """The part of the machine's cores that belongs to one of ``slots`` cells at a time; None for all of them."""
    if slots == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    every = sorted(os.sched_getaffinity(0))
    return frozenset(every[slot::slots] or [every[slot % len(every)]])


def _job_return(overrides: Sequence[str], attempt: Attempt) -> JobReturn:
    """What a sweeper reads.  Without the configuration: those of a long sweep would fill the driver's memory."""
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    # A search has to see that a cell gave no value; a grid ignores what it returns.
    returned.return_value = math.nan if attempt.objective is None else attempt.objective
    return returned
