"""Cells that another launcher (joblib, submitit) has brought to another process or machine."""

from __future__ import annotations

import functools
import math
import signal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner.config.load import load_config, typed_keys
from runner.config.schema import RunConfig
from runner.errors import RequestError
from runner.execution.attempt import Attempt, record_failure
from runner.execution.sweep_context import FindContext
from runner.internals.hydra_parts import Callbacks
from runner.processes.fork_server import shared_server
from runner.records.sweep_table import write_table
from runner.report.document import REPORT_FILE
from runner.sweeping.cell import Cell, Place, killed, plain_types, run_forked
from runner.sweeping.cell_progress import failed_before, read_cell_record
from runner.sweeping.preload import modules_for
from runner.sweeping.report_renewal import ReportRenewal, WriteReport
from runner.sweeping.selection_file import is_drawn


def run_external_cell(find_context: FindContext, write_report: WriteReport | None, composed: DictConfig) -> float:
    """Run the cell that Hydra has composed here, in a process of its own, and return its objective; NaN for none.

    Such launchers know nothing of cells that have failed before, and some run one cell after the other in one process.
    """
    whole = HydraConfig.instance().cfg
    assert isinstance(whole, DictConfig)
    config: RunConfig | RequestError
    try:
        config = load_config(composed, typed_keys=typed_keys(whole.hydra))
    except RequestError as error:
        config = error
    # its callbacks are called here, by the launcher
    number, plain = whole.hydra.job.num, plain_types(composed, whole.hydra)  # Hydra hands its own part out by itself
    cell = Cell(number=number, name="", config=config, composed=plain, callbacks=Callbacks(), find_context=find_context)
    if failed_before(read_cell_record(cell.folder)) and not composed.retry_failed:
        return math.nan
    renewal = None if write_report is None else _report_renewal(write_report, cell.sweep_dir / REPORT_FILE)
    server = shared_server(modules_for([] if isinstance(config, RequestError) else [config]))
    server.start(run_forked, (cell, Place.here()))
    try:
        ended = server.wait()
    except BaseException:  # by a handler of the launcher's own: submitit asks Slurm for another start and exits
        server.signal(signal.SIGUSR1)
        server.wait()
        raise
    assert ended is not None
    attempt: Attempt = ended.value if ended.returned else killed(cell, ended)
    if attempt.error is not None:
        record_failure(cell.folder, attempt)
    if not is_drawn(cell.sweep_dir):
        write_table(cell.sweep_dir)
        if renewal is not None:
            renewal.cell_ended()
    return math.nan if attempt.objective is None else attempt.objective


_report_renewal = functools.cache(ReportRenewal)
"""That of a sweep, for all the cells that this process runs."""
