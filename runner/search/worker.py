"""One worker of a search: opens the study, has trials run and the best of them confirmed, and says what was found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.samplers import GridSampler
from optuna.trial import TrialState

from runner.config.compose import Composer
from runner.config.request.search_config import KEY, first_options, is_whole, load_search, parse_limits
from runner.config.rules.privacy_rules import may_change_mechanism
from runner.config.untrusted.targets import locate
from runner.config.words.pluralize import pluralize
from runner.errors import RequestError, RunError
from runner.privacy.accounting.stopping_draws import Draw
from runner.records.sweep_cells import confirmation_folder, is_confirmation, read_asked, write_cells
from runner.search.confirming import is_decided, open_confirmation, read_confirmation, recipe_of
from runner.search.private_study import refuse_chosen, share_draw, share_identity
from runner.search.results import best_of, describe, write_results
from runner.search.sampler_check import learns_from_trials, require_random_trials
from runner.search.sampling import build_pruner, build_sampler, grid_size, read_space
from runner.search.study import StudySettings, open_study, study_name
from runner.search.study_storage import MEMORY, Storage, forgotten, open_storage, place_of
from runner.search.trial_runner import TrialRunner
from runner.sweeping.multirun_file import write_multirun
from runner.sweeping.selection_file import draw_trials, question_hash, refuse_varied


class Worker:
    """What ``hydra/sweeper=optuna`` does in one process."""

    def __init__(self, config: DictConfig, composer: Composer, launcher: Launcher, arguments: Sequence[str]) -> None:
        """``config`` is the sweep's, with the search under ``hydra.sweeper``.

        ``arguments`` are the overrides that say what is searched and what is fixed (``Request.lines``).

        Raises:
            RequestError: there is nothing to search, or no way to draw from it.
        """
        self._config, self._launcher = config, launcher
        self._search = load_search(config.hydra.sweeper)
        self._sweep_dir = Path(config.hydra.sweep.dir).absolute()
        self._composer = composer
        self._space, self._fixed = read_space(arguments, is_whole=lambda key: is_whole(config, key))
        searched = [override for override in composer.parse(arguments) if override.is_sweep_override()]
        firsts = first_options(searched, self._fixed)
        self._run = composer.compose([*config.hydra.overrides.hydra, *self._fixed, *firsts])
        self._limits = parse_limits(self._search.constraints)
        self._sampler = build_sampler(self._search.sampler, self._space)
        self._pruner = build_pruner(self._search.pruner)
        if isinstance(self._sampler, GridSampler):
            self._search.n_trials = min(self._search.n_trials, grid_size(self._space))
        self._hook = _find_hook(self._search.custom_search_space)
        self._runners: list[TrialRunner] = []
        self._confirmed: tuple[optuna.Study, int] | None = None
        """The study of fresh seeds of the best trial, and the number of that."""
        self._drawn = self._run.privacy.selection == "random_stopping"
        if self._run.privacy.enabled or self._drawn:
            self._require_an_account()

    def work(self) -> None:
        """Run trials until the study has all of them, then write and say what was found.

        Raises:
            RequestError: the storage or the study is not right, the next trial would pass ``privacy.sweep_epsilon``, or
                all trials are refused for one reason.
            RunError: no trial has given a value, or more failed at once than ``max_failure_rate`` allows.
        """
        # what others learn of drawn trials is the best of them
        self._sweep_dir.mkdir(mode=0o700 if self._drawn else 0o777, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if self._search.storage == MEMORY:
                stack.enter_context(forgotten(self._sweep_dir))
            storage = open_storage(place_of(self._search.storage, self._sweep_dir))
            name = study_name(self._search.study_name, self._run)
            settings = StudySettings.of(self._search, self._run, self._space)
            study = open_study(storage, name, self._search, settings, self._sampler, self._pruner)
            if self._drawn:
                self._search.n_trials = share_draw(study, storage, self._sweep_dir, self._ask(settings)).trials
            if self._run.privacy.enabled:
                share_identity(study, storage, self._sweep_dir)
            write_multirun(self._sweep_dir, self._config)
            trials = self._runner(
                study, storage, lambda: self._write(study), space=self._space, lines=self._lines, prepare=self._prepare
            )
            try:
                trials.run(self._search.n_trials)
                if self._search.confirm and is_decided(study) and best_of(study):
                    self._confirm(study, storage)
            finally:
                self._write(study)
                shown = storage.place if self._search.storage != MEMORY else f"{MEMORY}, which ends now"
                found = self._confirmed and read_confirmation(*self._confirmed)
                print("\n".join(describe(study, self._search, shown, found)), flush=True)
            if not best_of(study) and not study.get_trials(states=(TrialState.RUNNING,)):
                raise RunError(describe(study, self._search, shown)[-2])

    def _confirm(self, study: optuna.Study, storage: Storage) -> None:
        """Run the best trial on seeds that had no part in selecting it."""
        best = best_of(study)[0]
        recipe = recipe_of(self._fixed, best)
        run = self._composer.compose([*self._config.hydra.overrides.hydra, *recipe])
        settings = StudySettings.of(self._search, run, {})
        fresh, first = open_confirmation(storage, study, best, self._search, settings, self._run.seed)
        self._confirmed = fresh, best.number
        print(f"trial {best.number}, the best, on {pluralize(self._search.confirm, 'fresh seed')}", flush=True)
        self._runner(
            fresh,
            storage,
            lambda: self._write(study),
            space={},
            lines=lambda trial: [*recipe, f"seed={first + trial.number}"],
            name_folder=lambda number: confirmation_folder(best.number, first + number),
            first_job=len(study.get_trials(deepcopy=False)),
        ).run(self._search.confirm)

    def _runner(self, study: optuna.Study, storage: Storage, write: Callable[[], None], **own: Any) -> TrialRunner:
        """What runs the trials of ``study``, one that this worker has opened; ``own`` are fields of its own."""
        runner = TrialRunner(
            study=study,
            storage=storage,
            search=self._search,
            limits=self._limits,
            composer=self._composer,
            launcher=self._launcher,
            sweep_dir=self._sweep_dir,
            note_cells=self._note_cells,
            write=write,
            **own,
        )
        self._runners.append(runner)
        return runner

    def _note_cells(self) -> None:
        if not self._drawn:
            # an earlier best trial may have been confirmed, too
            earlier = [name for name in read_asked(self._sweep_dir) or {} if is_confirmation(name)]
            mine = [name for runner in self._runners for name in runner.folders()]
            write_cells(self._sweep_dir, dict.fromkeys([*mine, *earlier]))

    def _write(self, study: optuna.Study) -> None:
        found = self._confirmed and read_confirmation(*self._confirmed)
        write_results(study, self._search, self._sweep_dir, drawn=self._drawn, confirmation=found)

    def _prepare(self, trial: optuna.Trial) -> None:
        """Have the user's hook and the account look at a trial that is this worker's from now on."""
        if self._hook is not None:
            self._hook(self._run, trial)
        if self._drawn:
            trials = trial.study.get_trials(deepcopy=False)
            refuse_chosen(next(one for one in trials if one.number == trial.number))

    def _lines(self, trial: optuna.Trial) -> list[str]:
        return [*self._fixed, *(f"{key}={'null' if value is None else value}" for key, value in trial.params.items())]

    def _require_an_account(self) -> None:
        """Refuse, before the first trial, a private search for which no account of its trials holds."""
        if self._drawn:
            require_random_trials(self._sampler, self._pruner, self._search, self._run.trainer.monitor)
            refuse_varied(self._space.keys())
            return
        varied = sorted(key for key in self._space if may_change_mechanism(key))
        learns = learns_from_trials(self._sampler, self._search)
        if varied and self._run.privacy.sweep_epsilon is None and (learns or self._search.confirm):
            who = type(self._sampler).__name__ if learns else f"{KEY}.confirm"
            raise RequestError(
                "privacy.sweep_epsilon",
                f"null, while {who} picks {varied[0]} by the trials so far",
                "a budget for the whole search, or another sampler (random, grid, qmc): what private steps cost may be"
                " picked by results only within a budget that was set before them",
            )

    def _ask(self, settings: StudySettings) -> Draw:
        return draw_trials(
            self._run.privacy, question=question_hash(settings.keys), cells=None, expected=self._search.n_trials
        )


def _find_hook(path: str | None) -> Callable[[DictConfig, optuna.Trial], Any] | None:
    return None if path is None else locate(f"{KEY}.custom_search_space", path)
