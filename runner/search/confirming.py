"""Confirmation of a search: the best trial once more, on seeds that had no part in selecting it.

The best of several values is the best partly by chance, so it says too much of the recipe that gave it; figures of the
same recipe on fresh seeds do not.  These runs are trials of a study of their own, in the storage of the search: so they
are shared by its workers, taken over where one is killed, and no sampler learns from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from runner.config.request.search_config import SearchConfig
from runner.config.words.override_lines import key_of
from runner.search.study import StudySettings, open_study
from runner.search.study_storage import Storage

_FIRST_SEED = "first_seed"
"""User attribute of a study of fresh seeds."""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What the best trial came to on fresh seeds so far."""

    trial: int
    seeds: tuple[int, ...]
    values: tuple[float | None, ...]
    """Of the objective, one a seed; None where the run failed or has not ended."""


def is_decided(study: optuna.Study) -> bool:
    """Whether no trial of ``study`` may change which one is the best."""
    return not study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))


def recipe_of(fixed: Sequence[str], best: FrozenTrial) -> list[str]:
    """The overrides of ``best`` but for its seed; ``fixed`` are those that all trials share."""
    drawn = [f"{key}={'null' if value is None else value}" for key, value in best.params.items()]
    return [line for line in (*fixed, *drawn) if key_of(line) != "seed"]


def open_confirmation(
    storage: Storage, study: optuna.Study, best: FrozenTrial, search: SearchConfig, settings: StudySettings, seed: int
) -> tuple[optuna.Study, int]:
    """The study of fresh seeds of ``best``, new or as it stands, and the first of these seeds.

    ``settings`` say what its trials share, and ``seed`` is that of the trials of ``study`` that draw none.

    Raises:
        RequestError: a study of its name is of something else.
    """
    name = f"{study.study_name}: trial {best.number} on fresh seeds"
    fresh = open_study(storage, name, search, settings, RandomSampler(), NopPruner())
    with storage.turn(storage.study_id(fresh)):
        if _FIRST_SEED not in fresh.user_attrs:
            drawn = [trial.params["seed"] for trial in study.get_trials(deepcopy=False) if "seed" in trial.params]
            fresh.set_user_attr(_FIRST_SEED, max([seed, *map(int, drawn)]) + 1)
    return fresh, fresh.user_attrs[_FIRST_SEED]


def read_confirmation(fresh: optuna.Study, trial: int) -> Confirmation:
    """What the study ``fresh`` has found of ``trial`` so far."""
    trials, first = fresh.get_trials(deepcopy=False), fresh.user_attrs[_FIRST_SEED]
    values = [one.value if one.state == TrialState.COMPLETE else None for one in trials]
    return Confirmation(trial=trial, seeds=tuple(first + one.number for one in trials), values=tuple(values))
