"""``sweep("sweep=precision", seeds=3)``: many runs beside each other, and what they found together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.api.called_request import read_call
from runner.api.caller import randomness_kept, undisturbed
from runner.api.data_frame import data_frame, with_numbers
from runner.api.interruption import interruptible, tell_interrupted
from runner.api.overrides import Value, call_of
from runner.api.run import Run
from runner.api.start_sweep import start_sweep
from runner.errors import ExitCode, RequestError, RunError
from runner.records.run_file import RUN_FILE
from runner.records.sweep_cells import find_cells
from runner.records.sweep_table import read_cells
from runner.records.sweep_table_text import render_table
from runner.sweeping.random_trials import best_trial
from runner.sweeping.selection_file import is_drawn

if TYPE_CHECKING:
    import pandas as pd

    from runner.records.sweep_table import SweepTable

_WIDTH = 120
"""Columns of a table as text."""


@dataclass(frozen=True)
class ReportPage:
    """``report.html`` of a sweep: a path for whatever opens files, and the page itself where a notebook shows it."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40em;border:1px solid #8888"></iframe>'


@dataclass(frozen=True, repr=False)
class Sweep:
    """The cells of a grid or the trials of a search, as their files tell of them now.

    Of trials whose number was drawn (``privacy.selection=random_stopping``) nobody but the best may be looked at: then
    all but ``folder`` and ``best`` raises ``RequestError``.
    """

    folder: Path
    """Where its files are, absolute; each run has a folder in it."""

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> Sweep:
        """The sweep in ``folder``, whoever started it.

        Raises:
            RequestError: there is none.
        """
        path = Path(folder).expanduser().absolute()
        if not find_cells(path).cells:
            raise RequestError("folder", folder, "the folder of a sweep, with the folders of its runs")
        return cls(path)

    @property
    def runs(self) -> list[Run]:
        """Its runs in the order of their numbers; those of which there is no record yet are left out.

        Raises:
            RunError: the record of a run is damaged.
        """
        folders = [self.folder / row["cell"] for row in self._table().rows]
        return [Run.open(folder) for folder in folders if (folder / RUN_FILE).exists()]

    def table(self) -> pd.DataFrame:
        """A row for each run, as ``table.csv`` has it: what was asked, how it ended, what it measured and what it cost.

        Columns of numbers are numbers; a missing one is NaN.

        Raises:
            RequestError: pandas is not installed.
        """
        table = self._table()
        rows = [{**row, "cell": cell["cell"]} for row, cell in zip(with_numbers(table.rows), table.rows, strict=True)]
        return data_frame(rows, columns=table.columns)

    def verdict(self) -> str:
        """The answer to the question of the sweep, in a sentence or two.

        Raises:
            RunError: a file that belongs to it is damaged.
        """
        return self._finish().find_verdict(self.folder)

    def report(self) -> ReportPage:
        """The page with the tables, the plots and the statistics, written again where it is missing.

        Raises:
            RunError: a file that belongs to it is damaged, or the page cannot be written.
        """
        return ReportPage(self._finish().report_page(self.folder))

    def _finish(self) -> Any:
        """What finds verdicts and writes pages, which loads scipy and matplotlib; refuses where there is no table."""
        from runner.sweeping import finish

        _ = self._table()
        return finish

    @property
    def best(self) -> Run | None:
        """Of trials whose number was drawn, the one that may be published, once all have ended; else None."""
        name = best_trial(self.folder) if is_drawn(self.folder) else None
        return None if name is None else Run.open(self.folder / name)

    def __repr__(self) -> str:
        return "\n".join(self._parts())

    def _repr_html_(self) -> str:
        title, *rest = (escape(part) for part in self._parts())
        text = "\n".join(rest)
        style = "font-family:monospace;line-height:1.3;white-space:pre;overflow-x:auto"
        return f'<div><strong>{title}</strong><pre style="{style}">{text}</pre></div>'

    def _parts(self) -> list[str]:
        folder = f"folder: {self.folder}"
        if is_drawn(self.folder):
            return ["sweep: trials whose number was drawn", f"best: {self.best and self.best.folder}", folder]
        table = self._table()
        counts = Counter(row["status"] for row in table.rows)
        title = f"sweep: {', '.join(f'{count} {status}' for status, count in counts.items())}"
        return [title, render_table(table, width=_WIDTH).rstrip("\n"), f"verdict: {self.verdict()}", folder]

    def _table(self) -> SweepTable:
        if is_drawn(self.folder):
            expected = "another sweep: of its trials nobody but the best may be looked at, by Run.open(FOLDER)"
            raise RequestError("folder", f"{self.folder}, of privacy.selection=random_stopping", expected)
        return read_cells(self.folder)


def sweep(*overrides: str, **values: Value) -> Sweep:
    """Run a grid or a search, as ``python -m runner --multirun`` does, each run in a process of its own.

    Args:
        overrides: as they are typed on the command line: ``"sweep=precision"``, ``"optimizer.lr=0.1,0.01"``.
        values: as for ``run``, the same for all of them: ``seeds=3``, ``**{"hydra.sweep.dir": folder}``.

    Raises:
        RequestError: it cannot be run as typed; nothing was started.
        RunError: a run failed; the others are there: ``Sweep.open(error.folder)``.
        KeyboardInterrupt: Ctrl-C, or another signal that asks to end, stopped it; the same call goes on in its folder.
    """
    with undisturbed("sweep"):
        call = read_call(overrides, values, multirun=True)
        assert call.request.sweep_dir is not None
        folder = call.request.sweep_dir.absolute()
        argv = ["--multirun", *call.flags, *(line for line in call.lines if line not in call.request.deferred)]
        with randomness_kept():
            end = interruptible(lambda: start_sweep(call.composer, call.request, argv, say=_say_nothing))
    if end is None or end.exit_code == ExitCode.INTERRUPTED:
        again = call_of("sweep", overrides, {**values, "hydra.sweep.dir": str(folder)})
        tell_interrupted(again if folder.is_dir() else None)
        raise KeyboardInterrupt
    if end.error is not None or end.exit_code != ExitCode.DONE:
        line = end.error or f"Hydra ended with code {end.exit_code}"
        raise RunError(f"{line} (in {folder})", folder=folder)
    return Sweep(folder)


def _say_nothing(line: str) -> None:
    """The caller gets an object that says it."""
