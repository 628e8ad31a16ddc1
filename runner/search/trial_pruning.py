"""The trial's side of a search, inside the job: each evaluation is reported, and the pruner may end the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from runner.config.request.request import GRID
from runner.config.request.search_config import EACH_EPOCH, SWEEPER, SearchConfig, check_steering, load_search
from runner.errors import RunError

if TYPE_CHECKING:
    import optuna
    from omegaconf import DictConfig

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


def find_link(config: RunConfig) -> TrialLink | None:
    """The link of the run that Hydra has called, a cell of a sweep; None when its figures rank nothing before its end.

    The number of the trial is the name of its folder, for Hydra lets no cell have a sweeper of its own.

    Raises:
        RequestError: its values made the run private, and its pruner would choose by private data.
    """
    whole: DictConfig = HydraConfig.instance().cfg  # type: ignore[assignment]  # an attribute of Hydra's own types
    if whole is None or whole.hydra.sweeper._target_ != SWEEPER:
        return None
    from runner.search.storage import place_of
    from runner.search.worker import study_name

    search: SearchConfig = load_search(whole.hydra.sweeper)
    check_steering(search.pruner, config)
    if len(search.objectives) > 1 or search.objectives[0] not in EACH_EPOCH:
        return None
    return TrialLink(
        storage=place_of(search.storage, Path(whole.hydra.sweep.dir).absolute()),
        study_name=study_name(search.study_name, whole),
        number=int(whole.hydra.sweep.subdir),
        figure=search.objectives[0],
        pruner=search.pruner,
    )


def settings_learn() -> bool:
    """Whether the settings of the run that Hydra has called, a cell of a sweep, may depend on the results of others.

    Not those of a grid, nor of a sampler that looks at no results; of sweepers that are not the runner's own, anything.

    Raises:
        RequestError: its sampler cannot be made.
    """
    whole: DictConfig = HydraConfig.instance().cfg  # type: ignore[assignment]  # an attribute of Hydra's own types
    if whole is None or whole.hydra.sweeper._target_ == GRID:
        return False
    if whole.hydra.sweeper._target_ != SWEEPER:
        return True
    from runner.search.sampler_check import learns_from_trials
    from runner.search.sampling import build_sampler

    search: SearchConfig = load_search(whole.hydra.sweeper)
    return learns_from_trials(build_sampler(search.sampler, {}), search)


class TrialPruningHook:
    """Hears what each evaluation of one run found, and says whether the run is worth going on with."""

    def __init__(self, link: TrialLink) -> None:
        """Connect to the study.

        Raises:
            RequestError: its storage cannot be reached from here.
        """
        from runner.search.sampling import build_pruner
        from runner.search.storage import open_storage
        from runner.search.study import link_trial

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
