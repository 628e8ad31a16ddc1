"""Pruning inside the run of a trial: each evaluation is reported, and the pruner may end the run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from omegaconf import DictConfig

from runner.config.request.search_config import EACH_EPOCH, SearchConfig, check_steering, load_search
from runner.errors import RunError
from runner.records.sweep_cells import is_confirmation
from runner.search.sampler_check import learns_from_trials
from runner.search.sampling import build_pruner, build_sampler
from runner.search.study import link_trial, study_name
from runner.search.study_storage import open_storage, place_of

if TYPE_CHECKING:
    from runner.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class TrialLink:
    """Which trial a run is; can be pickled."""

    storage: str
    """Path or URL."""
    study_name: str
    number: int
    figure: str
    """What each evaluation reports: ``val_accuracy`` or ``val_loss``."""
    pruner: Mapping[str, Any]
    """Options of the pruner, which the study does not keep."""


def find_pruning(config: RunConfig, whole: DictConfig) -> Callable[[], TrialPruningHook] | None:
    """Connects to the search that ``config`` is a trial of; None when its figures rank nothing before its end.

    ``whole`` is the same with Hydra's own part.  The number of the trial is the name of its folder, for Hydra lets no
    cell have a sweeper of its own.

    Raises:
        RequestError: its values made the run private, and its pruner would choose by private data.
    """
    search: SearchConfig = load_search(whole.hydra.sweeper)
    check_steering(search.pruner, config)
    if len(search.objectives) > 1 or search.objectives[0] not in EACH_EPOCH:
        return None
    if is_confirmation(str(whole.hydra.sweep.subdir)):
        return None
    link = TrialLink(
        storage=place_of(search.storage, Path(whole.hydra.sweep.dir).absolute()),
        study_name=study_name(search.study_name, whole),
        number=int(whole.hydra.sweep.subdir),
        figure=search.objectives[0],
        pruner=search.pruner,
    )
    return functools.partial(TrialPruningHook, link)


def settings_learn(sweeper: DictConfig) -> bool:
    """Whether the settings of a run may depend on the results of others; ``sweeper`` is the search as composed.

    Raises:
        RequestError: its sampler cannot be made.
    """
    search: SearchConfig = load_search(sweeper)
    return search.confirm > 0 or learns_from_trials(build_sampler(search.sampler, {}), search)


class TrialPruningHook:
    """Hears what each evaluation of one run found, and says whether the run is worth going on with."""

    def __init__(self, link: TrialLink) -> None:
        """Connect to the study.

        Raises:
            RequestError: its storage cannot be reached from here.
        """
        self._figure = link.figure
        storage = open_storage(link.storage)
        self._trial: optuna.Trial = link_trial(storage, link.study_name, link.number, build_pruner(link.pruner))
        kept = storage.backend.get_trial(storage.trial_id(self._trial.study, link.number))
        self._reported = set(kept.intermediate_values)

    def is_hopeless(self, epoch: int, *, val_loss: float, val_accuracy: float) -> bool:
        """Report the evaluation after ``epoch``; whether the pruner would end the run now.

        Raises:
            RunError: the loss is not finite, so that neither figure can be compared with another trial's.
        """
        if not math.isfinite(val_loss):
            raise RunError(f"val_loss is not finite after epoch {epoch}: the trial can be compared with no other")
        value = {"val_loss": val_loss, "val_accuracy": val_accuracy}[self._figure]
        if epoch not in self._reported:  # an epoch that is repeated after an interruption gives the same
            self._trial.report(value, epoch)
        return self._trial.should_prune()
