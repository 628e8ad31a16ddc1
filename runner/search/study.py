"""A study that belongs to one search: made, or found again and held against what is asked now."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from runner.config.request.search_config import KEY, SearchConfig, directions
from runner.errors import RequestError
from runner.search.sampling import Space
from runner.search.study_storage import RECIPE, Storage

_FREE = (
    "tracker",
    "name",
    "resume",
    "deterministic",
    "data.root",
    "data.cache_dir",
    "data.cache_shared",
    "data.eval_batch_size",
    "trainer.log_every",
    "trainer.save_every",
    "privacy.ledger_dir",
    "privacy.sweep_epsilon",
    "privacy.grad_sample",
    "privacy.secure_noise",
)
"""Keys that may change while a search goes on: they say how a trial runs, and not what it computes."""
_OF_THE_MACHINE = {"seconds", "samples_per_second", "peak_bytes"}
"""Objectives for which ``hardware`` may not change either."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What makes the trials of a study comparable."""

    keys: Mapping[str, Any]
    """Dotted key -> value, of what is fixed, and of what is searched its distribution."""

    @classmethod
    def of(cls, search: SearchConfig, run: DictConfig, space: Space) -> StudySettings:
        """The recipe of ``search`` over ``space``; ``run`` is a run with what is not searched."""
        free = _FREE if _OF_THE_MACHINE & set(search.objectives) else (*_FREE, "hardware")
        task = OmegaConf.masked_copy(run, [str(key) for key in run if key != "hydra"])
        fixed = {
            key: value
            for key, value in _flat("", OmegaConf.to_container(task, resolve=False))
            if not any(key == name or key.startswith(f"{name}.") for name in free)
        }
        asked = {f"{KEY}.objectives": search.objectives, f"{KEY}.constraints": search.constraints}
        drawn = {key: distribution_to_json(distribution) for key, distribution in space.items()}
        return cls(keys={**fixed, **drawn, **asked})


def study_name(asked: str | None, run: DictConfig) -> str:
    """Name of the study of a sweep, or of a trial in it."""
    return asked or run.hydra.runtime.choices.get("sweep") or "search"


def open_study(
    storage: Storage, name: str, search: SearchConfig, settings: StudySettings, sampler: BaseSampler, pruner: BasePruner
) -> optuna.Study:
    """The study ``name``, new or as it stands.

    Raises:
        RequestError: a study of that name is of another search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would tell of each trial on standard error
    ways = cast(list[Literal["minimize", "maximize"]], directions(search))
    study = optuna.create_study(
        storage=storage.backend, study_name=name, directions=ways, sampler=sampler, pruner=pruner, load_if_exists=True
    )
    if (found := study.user_attrs.get(RECIPE)) is None:
        if any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
            raise _other(name, storage, "is of another program")
        study.set_user_attr(RECIPE, dict(settings.keys))
        found = study.user_attrs[RECIPE]
    for key in {**settings.keys, **found}:
        if settings.keys.get(key) != found.get(key):
            raise RequestError(
                key,
                _typed(settings.keys.get(key)),
                f"{_typed(found.get(key))} as in the study {name} in {storage.place}, or another {KEY}.study_name",
            )
    if [way.name.lower() for way in study.directions] != ways:
        raise _other(name, storage, f"has the directions {', '.join(way.name.lower() for way in study.directions)}")
    return study


def link_trial(storage: Storage, name: str, number: int, pruner: BasePruner) -> optuna.Trial:
    """Trial ``number`` of a study that another process searches, to report to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.load_study(
            study_name=name, storage=storage.backend, sampler=optuna.samplers.RandomSampler(), pruner=pruner
        )
    return optuna.Trial(study, storage.trial_id(study, number))


def _other(name: str, storage: Storage, how: str) -> RequestError:
    return RequestError(f"{KEY}.study_name", name, f"another name: the study of this name in {storage.place} {how}")


def _typed(value: Any) -> Any:
    return "nothing" if value is None else value


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}".lstrip("."), item)
    else:
        yield prefix, value
