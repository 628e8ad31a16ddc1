"""The driver of a sweep: the end of each cell, their joint privacy cost, the table and the report."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from runner.config.compose import Composer
from runner.config.request.request import Request
from runner.config.schema import RunConfig
from runner.errors import ExitCode, RequestError, RunError
from runner.execution.attempt import Attempt
from runner.execution.sweep_context import FindContext
from runner.privacy.ledger.ledger import ledger_folder
from runner.processes.fork_server import ForkServer, shared_server
from runner.records.run_file import FINISHED
from runner.records.sweep_table import TABLE_FILE, SweepTable, TableWriter
from runner.records.sweep_table_text import render_table
from runner.report.document import REPORT_FILE
from runner.sweeping.budget import budget_has_room, cells_to_plan, planned_cells, refuse_over_budget
from runner.sweeping.cell import Cell
from runner.sweeping.earlier_cells import earlier_config
from runner.sweeping.external_launchers import run_external_cell
from runner.sweeping.preload import modules_for
from runner.sweeping.privacy_file import render_spending, write_spending
from runner.sweeping.progress_display import ProgressDisplay, make_display
from runner.sweeping.random_trials import best_trial
from runner.sweeping.report_renewal import ReportRenewal, WriteReport
from runner.sweeping.selection_file import is_drawn

if TYPE_CHECKING:
    from runner.sweeping.finish import Look


@dataclass(kw_only=True)
class SweepDriver:
    """A multirun.  Hydra takes it for the function to call with each composed configuration."""

    composer: Composer
    request: Request
    check: Callable[[RunConfig], None]
    """The rules of a configuration."""
    find_context: FindContext
    """What a cell has to know of this sweep."""
    write_report: WriteReport | None = None
    """Writes what can be said of a sweep that is under way."""
    look: Callable[[Path, Sequence[str]], Look] | None = None
    """Judges the results of some cells in a sweep's folder; needed where it runs until it is decided."""
    say: Callable[[str], None] = print
    """Takes what a person wants to know at the end."""
    ended: list[tuple[int, str, Attempt]] = field(default_factory=list)
    """Number, name and end of each cell of this start."""
    ledgers: set[Path] = field(default_factory=set)
    """Folders of ledgers in which private cells are recorded."""
    ordinary: int = 0
    """Cells without privacy."""
    spent: str = ""
    """What the private cells spent, for people."""
    begun: bool = True
    """Whether any cell has left something; what was interrupted before has nothing to show."""
    ending: str = ""
    """Why a sweep has ended undecided that was to run until it is decided, or what halving has stopped."""
    failure: str | None = None
    """Which cells failed, and why, in one line; known once it has reported."""
    display: ProgressDisplay = field(init=False)
    """What is shown while the sweep goes on."""

    def __post_init__(self) -> None:
        """Show it from now on."""
        # how many trials were drawn is nobody's to see
        drawn = any(config.privacy.selection == "random_stopping" for config in self.request.configs)
        # of one that runs until it is decided nobody knows it, and with halving cells start several times
        counted = not (drawn or self.request.until_decided or self.request.halving)
        self.display = make_display(self.request.cells if counted else None, searched=self.request.cells is None)

    def __call__(self, composed: DictConfig) -> float:
        """What launchers other than the own one call for each cell."""
        return run_external_cell(self.find_context, self.write_report, composed)

    def __reduce__(self) -> tuple[Any, ...]:
        """What goes to another process is the function alone."""
        return functools.partial, (run_external_cell, self.find_context, self.write_report)

    @functools.cached_property
    def server(self) -> ForkServer:
        """The process that cells are forked from."""
        return shared_server(modules_for(self.request.configs, searched=self.request.cells is None))

    @property
    def folder(self) -> Path:
        """Where the sweep writes."""
        assert self.request.sweep_dir is not None
        return self.request.sweep_dir

    @functools.cached_property
    def _table(self) -> TableWriter:
        return TableWriter(self.folder)

    @functools.cached_property
    def _report_renewal(self) -> ReportRenewal | None:
        return None if self.write_report is None else ReportRenewal(self.write_report, self.folder / REPORT_FILE)

    def admit(self) -> None:
        """Refuse a grid whose private cells would spend too much, before the first of them.

        Raises:
            RequestError: names how many of the cells fit.
        """
        private = cells_to_plan(self.request)
        if private:
            # in a process of its own, because planning imports torch
            self.server.start(planned_cells, private)
            ended = self.server.wait()
            assert ended is not None
            if ended.exit_code == 0 and ended.value is not None:
                refuse_over_budget(self.request, ended.value)

    def affords(self, configs: Sequence[RunConfig]) -> bool:
        """Whether further private cells stay within the budget of a sweep whose rounds depend on results.

        Raises:
            RunError: the privacy ledger is broken or cannot be read.
        """
        planned = self.server.call(planned_cells, configs)
        return planned is None or budget_has_room(self.folder, configs[0].privacy, planned)

    def look_at_results(self, folders: Sequence[str]) -> Look:
        """What the results of the cells in ``folders``, named from the sweep's, say of the question.

        Raises:
            RequestError: the question does not fit the sweep.
            RunError: a file that belongs to the sweep is damaged.
        """
        assert self.look is not None
        return self.look(self.folder, folders)

    def close(self) -> None:
        """Leave the terminal as it was, and no cell under way."""
        self.display.close()
        if "server" in vars(self) and not self.server.closed:
            self.server.abandon()

    def name_of(self, overrides: Sequence[str]) -> str:
        """What was typed for a cell and differs from its neighbours."""
        typed = [line for line in overrides if not line.startswith("hydra.")]
        return " ".join(line for line in typed if line not in self.request.fixed) or " ".join(typed)

    def load(self, composed: DictConfig, number: int) -> RunConfig:
        """The typed configuration of a cell.

        Raises:
            RequestError: a search has drawn what may not be.
        """
        config = self.composer.load(composed, number=number)
        self.check(config)
        return config

    def begin(self, cell: Cell) -> None:
        """Note that a cell starts."""
        _ = self._report_renewal  # its time begins
        self._count(cell.config)
        self.display.begin(cell)

    def refresh(self) -> None:
        """Show how far the cells have come."""
        self.display.refresh()

    def end(self, cell: Cell, attempt: Attempt) -> None:
        """Take in how a cell ended, and renew what the sweep tells: a kill leaves the truth so far."""
        self.ended.append((cell.number, cell.name, attempt))
        self.renew()
        self.display.end(cell, attempt)
        if self._report_renewal is not None and not is_drawn(self.folder):
            self._report_renewal.cell_ended()

    def skip(self, cell: Cell, attempt: Attempt) -> None:
        """Take in how a cell ended that an earlier start of the sweep had run."""
        self._count(cell.config)
        self.ended.append((cell.number, cell.name, attempt))
        self.display.skip(cell, attempt)

    def _count(self, config: RunConfig | RequestError) -> None:
        """Note whether a cell is private, and where that will be recorded."""
        if isinstance(config, RequestError):
            return
        if not config.privacy.enabled:
            self.ordinary += 1
            return

        self.ledgers.add(ledger_folder(config.privacy.ledger_dir))

    def renew(self) -> SweepTable:
        """Renew ``table.csv`` and ``privacy.json`` from the cells' files; no table of trials that nobody may see."""
        table = self._table.read() if is_drawn(self.folder) else self._table.write()
        if self.ledgers:
            self._write_spending(self.folder)
        return table

    def report(self, code: int) -> int:
        """Say at the end what the user needs, and return the exit code; ``code`` is Hydra's own."""
        self.display.close()
        if not self.folder.exists():
            return code
        table = self.renew()
        if not self.ended:
            table = self._take_in(table)
        self.begun = bool(table.rows)
        if code == ExitCode.INTERRUPTED and not self.begun:
            return code
        # with halving a cell ends at each of its rungs
        self.ended = sorted({found[0]: found for found in self.ended}.values(), key=lambda found: found[0])
        width = shutil.get_terminal_size((120, 24)).columns
        if not is_drawn(self.folder):
            self.say(render_table(table, width=width).removesuffix("\n"))
            self.say(f"table: {self.folder / TABLE_FILE}")
        if self.spent:
            self.say(self.spent.removesuffix("\n"))
        if self.ending:
            self.say(self.ending)
        if self.request.cells is None:
            return code  # a search has told which trials failed: that is an answer like any other
        failed = [(number, name, attempt) for number, name, attempt in self.ended if attempt.error is not None]
        # Cells that were refused to keep a limit are not failures of anything that ran.
        refused = all(attempt.key == "privacy.sweep_epsilon" for _, _, attempt in failed)
        if failed:
            cells = "; ".join(f"cell {number} ({name}): {attempt.error}" for number, name, attempt in failed)
            how = "refused" if refused else "failed"
            self.failure = f"{len(failed)} of {len(self.ended)} cells {how}: {cells}"
        if code == ExitCode.DONE and any(attempt.exit_code == ExitCode.INTERRUPTED for _, _, attempt in self.ended):
            return ExitCode.INTERRUPTED
        if code != ExitCode.DONE or not failed:
            return code
        return ExitCode.WRONG_REQUEST if refused else ExitCode.FAILED

    def _write_spending(self, sweep_dir: Path) -> None:
        try:
            found = write_spending(sweep_dir, self.ledgers, ordinary=self.ordinary)
        except RunError as error:
            # The next private cell meets it too and is refused; cells without privacy may go on.
            self.spent = f"privacy of the sweep: unknown, because {error}\n"
        else:
            best = best_trial(sweep_dir) if is_drawn(sweep_dir) else None
            self.spent = render_spending(found, ordinary=self.ordinary, best=best)

    def _take_in(self, table: SweepTable) -> SweepTable:
        """Learn from the cells' files how they ended where another launcher ran them."""
        codes: dict[str, ExitCode] = {"failed": ExitCode.FAILED, **dict.fromkeys(FINISHED, ExitCode.DONE)}
        for number, row in enumerate(table.rows):
            config = earlier_config(self.folder / row["cell"])
            if config is not None:
                self._count(config)
            name = self.name_of([f"{key}={row[key]}" for key in table.overridden if row[key]])
            code = codes.get(row["status"], ExitCode.INTERRUPTED)
            self.ended.append((number, name, Attempt(exit_code=code, error=row["error"] or None)))
        return self.renew()
