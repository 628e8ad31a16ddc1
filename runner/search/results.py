"""The results of a search: ``trials.csv``, ``optimization_results.yaml``, and lines at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from runner.config.request.search_config import DIRECTIONS, SearchConfig, directions
from runner.config.words.pluralize import pluralize
from runner.disk.files import write_text
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.csv_table import to_csv
from runner.records.sweep_table import TRIALS_FILE
from runner.search.confirming import Confirmation
from runner.search.trial_leases import FOLDER, OWNER
from runner.search.trial_result import CAUSE

RESULTS_FILE = "optimization_results.yaml"

_CONSTRAINTS = "constraints"
_FORMS: dict[str, Callable[[float], str]] = {
    "val_accuracy": "{:.2%}".format,
    "seconds": "{:.2f} s".format,
    "samples_per_second": "{:,.0f}/s".format,
    "epsilon": epsilon_text,
}


def write_results(
    study: optuna.Study, search: SearchConfig, sweep_dir: Path, *, drawn: bool, confirmation: Confirmation | None = None
) -> None:
    """Replace both files by what the study holds now, each atomically.

    ``confirmation`` is what the best trial came to on fresh seeds.  ``drawn`` says that nobody may see any trial but
    the best (random stopping): then there is no table of all.
    """
    trials = study.get_trials(deepcopy=False)
    if not drawn:
        write_text(sweep_dir / TRIALS_FILE, _table(trials, len(search.objectives)))
    front = best_of(study)
    found: dict[str, Any] = {"name": "optuna"}
    if len(search.objectives) == 1:
        best = front[0] if front else None
        found |= {
            "best_params": {} if best is None else best.params,
            "best_value": None if best is None else best.value,
            "best_trial": None if best is None else best.number,
        }
    else:
        found["solutions"] = [{"params": t.params, "values": list(t.values), "trial": t.number} for t in front]
    found |= {
        "objectives": list(search.objectives),
        "directions": directions(search),
        "constraints": list(search.constraints),
        "study_name": study.study_name,
    }
    if confirmation is not None:
        found["confirmation"] = {name: list(value) if isinstance(value, tuple) else value
                                 for name, value in vars(confirmation).items()}  # fmt: skip
    write_text(sweep_dir / RESULTS_FILE, yaml.safe_dump(found, sort_keys=False, allow_unicode=True))


def best_of(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial that keeps the constraints, or the Pareto front of those that do; empty when there is none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not any(all(excess <= 0 for excess in trial.constraints.values()) for trial in complete):
        return []
    return study.best_trials if len(study.directions) > 1 else [study.best_trial]


def describe(
    study: optuna.Study, search: SearchConfig, place: str, confirmation: Confirmation | None = None
) -> list[str]:
    """The search in a few lines for people."""
    trials = study.get_trials(deepcopy=False)
    counts = Counter(_word(trial) for trial in trials)
    text = ", ".join(f"{counts[word]} {word}" for word in sorted(counts))
    lines = [f"search {study.study_name}: {len(trials)} of {search.n_trials} trials ({text or 'none yet'})"]
    lines += [
        f"  trial {trial.number} failed: {trial.user_attrs.get(CAUSE)}"
        for trial in trials
        if trial.state == TrialState.FAIL
    ]
    front = best_of(study)
    if not front:
        why = "no trial has given a value" if not search.constraints else "no trial has kept the constraints"
        causes = [cause for trial in trials if (cause := trial.user_attrs.get(CAUSE))]
        lines.append(f"{why}; the first that failed: {causes[0]}" if causes else why)
    elif len(search.objectives) == 1:
        lines.append(f"best trial {_described(front[0], search.objectives)}")
        lines += [] if confirmation is None else [_confirmed(confirmation, search.objectives[0])]
    else:
        names = " against ".join(search.objectives)
        lines.append(f"Pareto front of {names}: {len(front)} trials")
        first = DIRECTIONS[search.objectives[0]] == "maximize"
        ordered = sorted(front, key=lambda trial: trial.values[0], reverse=first)
        lines += [f"  trial {_described(trial, search.objectives)}" for trial in ordered]
    return [*lines, f"study: {study.study_name} in {place}"]


def _word(trial: FrozenTrial) -> str:
    if trial.state == TrialState.RUNNING and trial.system_attrs.get(OWNER) is None:
        return "to go on with"
    return {TrialState.COMPLETE: "completed", TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def _described(trial: FrozenTrial, objectives: Sequence[str]) -> str:
    values = zip(objectives, trial.values, strict=True)
    figures = ", ".join(f"{name} {_form(name)(value)}" for name, value in values)
    params = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    return f"{trial.number}: {figures} with {params}"


def _confirmed(confirmation: Confirmation, objective: str) -> str:
    values = [value for value in confirmation.values if value is not None]
    mean = f", {objective} {_form(objective)(fmean(values))} on average" if values else ""
    return f"  on {len(values)} of {pluralize(len(confirmation.seeds), 'fresh seed')}{mean}"


def _form(objective: str) -> Callable[[float], str]:
    return _FORMS.get(objective, "{:.4g}".format)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(trials: Sequence[FrozenTrial], objectives: int) -> str:
    """CSV with the columns, and their names, of Optuna's ``Study.trials_dataframe``."""
    values = ["value"] if objectives == 1 else [f"values_{number}" for number in range(objectives)]
    rows = [_row(trial, values) for trial in trials]
    found = list(dict.fromkeys(key for row in rows for key in row))
    named = [key for prefix in ("params_", "user_attrs_", "system_attrs_") for key in found if key.startswith(prefix)]
    columns = ["number", *values, "datetime_start", "datetime_complete", "duration", *named, "state"]
    return to_csv(columns, rows)


def _row(trial: FrozenTrial, values: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": trial.number,
        "datetime_start": trial.datetime_start or "",
        "datetime_complete": trial.datetime_complete or "",
        "duration": "" if trial.duration is None else _duration(trial.duration),
        "state": trial.state.name,
    }
    row |= dict(zip(values, trial.values or [""] * len(values), strict=True))
    row |= {f"params_{key}": value for key, value in trial.params.items()}
    attributes = {key: value for key, value in trial.user_attrs.items() if key != FOLDER}
    row |= {f"user_attrs_{key}": value for key, value in attributes.items()}
    row |= {f"user_attrs_{FOLDER}": Path(trial.user_attrs[FOLDER]).name} if FOLDER in trial.user_attrs else {}
    return row | {f"system_attrs_{_CONSTRAINTS}:{key}": excess for key, excess in trial.constraints.items()}


def _duration(duration: timedelta) -> str:
    """As pandas writes a Timedelta."""
    clock = str(duration - timedelta(days=duration.days))
    return f"{duration.days} days {'0' if clock[1] == ':' else ''}{clock}"
