"""The result of a trial, read from the files of its run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import TrialState

from runner.config.request.search_config import Limit
from runner.errors import RunError
from runner.records.metrics import METRICS_FILE, read_metrics
from runner.records.run_file import RunRecord, read_run

CAUSE = "cause"
"""User attribute of a failed trial: why, in one line."""
EPOCHS = "epochs"
"""User attribute: passes over the training data made."""

_BUDGET = "privacy.sweep_epsilon"


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How the run of a trial ended."""

    state: TrialState
    """COMPLETE, PRUNED or FAIL; RUNNING for one that can be gone on with, WAITING for one that was refused."""
    values: list[float] | None = None
    """Of the objectives, when complete."""
    excesses: dict[str, float] = field(default_factory=dict)
    """Constraint -> by how much it was broken; not above 0 where it was kept."""
    epochs: float = 0.0
    cause: str | None = None
    """Why it failed or was refused."""
    refused: bool = False
    """Whether it was refused before its first step."""


def read_trial_result(
    folder: Path, objectives: Sequence[str], limits: Sequence[Limit], error: str | None = None
) -> TrialResult:
    """The outcome of the run in ``folder``; ``error`` is what its launcher met, if anything."""
    try:
        record = read_run(folder)
    except FileNotFoundError:
        return TrialResult(state=TrialState.FAIL, cause=error or "the run ended before it began")
    except RunError as unreadable:
        return TrialResult(state=TrialState.FAIL, cause=str(unreadable))
    if record.status == "interrupted":
        return TrialResult(state=TrialState.RUNNING)
    if record.status == "failed" and record.error_key == _BUDGET:
        return TrialResult(state=TrialState.WAITING, cause=record.error)
    if record.status in ("failed", "running"):
        cause = record.error or error or "its process ended without a word"
        return TrialResult(state=TrialState.FAIL, epochs=record.epochs, cause=cause, refused=record.refused)
    figures = figures_of(record, folder)
    pruned = record.status == "pruned"
    needed = [*([] if pruned else objectives), *(limit.figure for limit in limits)]
    if missing := [name for name in needed if not math.isfinite(figures[name])]:
        return TrialResult(
            state=TrialState.FAIL, epochs=record.epochs, cause=f"the run ended without a finite {' and '.join(missing)}"
        )
    return TrialResult(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        values=None if pruned else [figures[name] for name in objectives],
        excesses={str(limit): limit.excess(figures[limit.figure]) for limit in limits},
        epochs=record.epochs,
    )


def finished_result(folder: Path, objectives: Sequence[str], limits: Sequence[Limit]) -> TrialResult | None:
    """The outcome of a run whose worker was killed before it could tell; None where the run is to be gone on with."""
    try:
        record = read_run(folder)
    except (FileNotFoundError, RunError):
        return None
    # what an earlier version's record leaves open is found out by asking again
    again = record.status in ("running", "interrupted") or (record.refused and record.error_kind is None)
    return None if again else read_trial_result(folder, objectives, limits)


def figures_of(record: RunRecord, folder: Path) -> dict[str, float]:
    """Every figure that a search may be for (``DIRECTIONS``); NaN for what the run did not measure."""
    found = {
        "val_accuracy": record.metrics.val_accuracy,
        "val_loss": record.metrics.val_loss,
        "seconds": _training_seconds(folder),
        "samples_per_second": record.throughput.samples_per_second,
        "peak_bytes": record.memory.peak_bytes,
        "epsilon": None if record.privacy is None else record.privacy.epsilon,
    }
    return {name: math.nan if value is None else float(value) for name, value in found.items()}


def tell(study: optuna.Study, trial: optuna.Trial, outcome: TrialResult) -> None:
    """Put a final ``outcome`` into the study."""
    for name, excess in outcome.excesses.items():
        trial.set_constraint(name, excess)
    trial.set_user_attr(EPOCHS, outcome.epochs)
    if outcome.cause is not None:
        trial.set_user_attr(CAUSE, outcome.cause)
    study.tell(trial, outcome.values, state=outcome.state)


def _training_seconds(folder: Path) -> float | None:
    """Of the last training record, which counts over interruptions, and leaves evaluation and saving out."""
    records = reversed(read_metrics(folder / METRICS_FILE))
    return next((record["seconds"] for record in records if record["kind"] == "train"), None)
