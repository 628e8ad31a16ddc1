"""The trials of a search in a table, the best first."""

from __future__ import annotations

from collections.abc import Iterator

from runner.records.document import Grid, Paragraph, Text
from runner.report.cells import SweepResults
from runner.report.recipes import peak_mebibytes, seconds
from runner.report.search_records import Search, Trial
from runner.report.search_words import OPTIMISTIC, cell_of, objective_name, objective_text, short

_MOST_ROWS = 30
_STATES = {"COMPLETE": "completed", "FAIL": "failed"}


def state_of(trial: Trial) -> str:
    """How it ended, in a word."""
    return _STATES.get(trial.state, trial.state.lower())


def tabulate_trials(sweep: SweepResults, search: Search) -> Iterator[Text]:
    """A row a trial, the best first: the objectives, every parameter that varied, and the cost; no test figures."""
    best = search.best() if len(search.directions) == 1 else None
    rows = []
    for trial in search.ranked()[:_MOST_ROWS]:
        cell = cell_of(sweep, trial)
        time, memory = (None, None) if cell is None else (seconds(cell), peak_mebibytes(cell))
        values = [objective_text(search, place, value) for place, value in enumerate(trial.values)]
        rows.append(
            [
                str(trial.number),
                *(values or ["-"] * len(search.directions)),
                *(short(trial.params.get(name, "-")) for name in search.varied),
                "-" if time is None else f"{time:,.1f}",
                "-" if memory is None else f"{memory:,.0f}",
                f"the best: {OPTIMISTIC}" if trial is best
                else "broke a constraint" if trial.values and not trial.allowed
                else state_of(trial),
            ]
        )  # fmt: skip
    objectives = [objective_name(search, place) for place in range(len(search.directions))]
    costs = [name if name not in objectives else f"{name} of the run" for name in ("seconds", "MiB")]
    names = [name.rpartition(".")[2] for name in search.varied]
    names = [full if names.count(name) > 1 else name for name, full in zip(names, search.varied, strict=True)]
    yield Grid(["trial", *objectives, *names, *costs, "state"], rows, frozenset({"state", *names}))
    if len(search.trials) > _MOST_ROWS:
        yield Paragraph(f"{len(search.trials) - _MOST_ROWS} more are in trials.csv.")
