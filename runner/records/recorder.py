"""The one object that the loop tells what it measured: file first, then the trackers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.privacy.accounting.sweep_epsilon import composed_spending
from runner.records.console import Console
from runner.records.json_values import plain
from runner.records.metrics import METRICS_FILE, MetricsWriter, RecordKind
from runner.records.non_private_figures import NOT_COVERED, non_private_figures_of_record
from runner.records.pruning_hook import PruningHook
from runner.records.run_file import RunRecord
from runner.records.sink import RunInfo, Sink

if TYPE_CHECKING:
    from runner.privacy.ledger.ledger import LedgerSession


class Recorder:
    """Writes records to ``metrics.jsonl`` and copies each one to the trackers; holds the console of the run."""

    def __init__(
        self,
        run_dir: Path | None,
        sinks: Sequence[Sink],
        console: Console,
        session: LedgerSession | None = None,
        pruning: PruningHook | None = None,
    ) -> None:
        """Open ``metrics.jsonl`` in ``run_dir`` to append.

        ``session`` writes to the ledger of a private run, ``pruning`` reports to the search of a trial.  ``run_dir`` is
        None on every rank but the first: the loop is the same there, and nothing is written.

        Raises:
            RunError: when an existing file is damaged.
        """
        self.console = console
        self.session = session
        self.pruning = pruning
        self._run_dir = run_dir
        self._sinks = tuple(sinks)
        self._metrics = None if run_dir is None else MetricsWriter(run_dir / METRICS_FILE)
        self._started = False

    @property
    def count(self) -> int:
        """Records in the file: what a checkpoint keeps for ``truncate_after``."""
        return 0 if self._metrics is None else self._metrics.count

    @property
    def tracker_run_id(self) -> str | None:
        """The tracker's identity of this run, for the checkpoint; None if no tracker has one."""
        return next((sink.run_id for sink in self._sinks if sink.run_id is not None), None)

    def start(self, info: RunInfo, *, title: str, plan_lines: Sequence[str]) -> None:
        """Start the trackers, which continue after ``count`` records, and show the plan."""
        info = dataclasses.replace(info, records=self.count)
        for sink in self._sinks:
            sink.start(info)
        self._started = True
        self.console.start(title, plan_lines)

    def write(self, kind: RecordKind, *, step: int, epoch: float, **metrics: Any) -> None:
        """Record ``metrics`` of ``kind`` after update ``step``, ``epoch`` passes over the data.

        Raises:
            RunError: when the file cannot be written.
        """
        if self.session is not None:
            metrics[NOT_COVERED] = non_private_figures_of_record(kind, metrics, validation=self.session.run.validation)
        if self._metrics is not None:
            record = self._metrics.write(kind, step=step, epoch=epoch, **metrics)
            for sink in self._sinks:
                sink.log(record)

    def sync(self) -> None:
        """Put the records on the disk, before a checkpoint that counts them is published."""
        if self._metrics is not None:
            self._metrics.sync()

    def close(self, run: RunRecord, exit_code: int) -> None:
        """Close the file, end the trackers with the final metrics, and show the result; ``run.json`` is written before.

        The order matters: what the trackers do may take seconds, and by then the run's own files are complete.
        """
        if self._metrics is None or self._run_dir is None:
            return
        self._metrics.close()
        if self._started:
            self.console.wait("finishing the records")
            for sink in self._sinks:
                cost = {**plain(run.throughput), **plain(run.memory), "seconds": run.seconds}
                sink.finish({**plain(run.metrics), **cost, **self._privacy(run)}, exit_code)
        self.console.finish(run, self._run_dir)

    def _privacy(self, run: RunRecord) -> dict[str, Any]:
        """What trackers are told of privacy: what the run spent, and its sweep so far, this run included."""
        spent = run.privacy
        if self.session is None or spent is None or spent.epsilon is None or not math.isfinite(spent.epsilon):
            return {}
        summary: dict[str, Any] = {"epsilon": spent.epsilon, "delta": spent.delta}
        if uncovered := [name.rpartition(".")[2] for name in run.not_covered_by_epsilon]:
            summary[NOT_COVERED] = uncovered
        sweep = composed_spending(self.session.chain, self.session.run.sweep)
        if sweep is not None and math.isfinite(sweep.epsilon):
            summary |= {"sweep_epsilon": sweep.epsilon, "sweep_delta": sweep.delta}
        return summary
