"""One worker of a search: claims a trial, has it run and tells the study what came of it, until there are enough."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.samplers import GridSampler
from optuna.trial import TrialState

from runner.config.compose import Composer
from runner.config.request.presets import added_to
from runner.config.request.search_config import KEY, first_options, is_whole, load_search, parse_limits
from runner.config.rules.privacy_rules import may_change_mechanism
from runner.config.untrusted.targets import locate
from runner.errors import ExitCode, RequestError, RunError
from runner.privacy.accounting.stopping_draws import Draw
from runner.records.sweep_cells import write_cells
from runner.search.private_study import refuse_chosen, share_draw, share_identity
from runner.search.results import best_of, describe, write_results
from runner.search.sampler_check import learns_from_trials, require_random_trials
from runner.search.sampling import build_pruner, build_sampler, grid_size, read_space
from runner.search.study import StudySettings, open_study, study_name
from runner.search.study_storage import MEMORY, forgotten, open_storage, place_of
from runner.search.trial_leases import FOLDER, TrialLeases
from runner.search.trial_result import TrialResult, finished_result, read_trial_result, tell
from runner.sweeping.selection_file import draw_trials, question_hash, refuse_varied

_SECONDS_BETWEEN_LOOKS = 0.5
"""While other workers' trials may have to be taken over."""


class Worker:
    """What ``hydra/sweeper=optuna`` does in one process."""

    def __init__(self, config: DictConfig, composer: Composer, launcher: Launcher, arguments: Sequence[str]) -> None:
        """``config`` is the sweep's, with the search under ``hydra.sweeper``.

        ``arguments`` are the overrides that say what is searched and what is fixed (``Request.lines``).

        Raises:
            RequestError: there is nothing to search, or no way to draw from it.
        """
        self._launcher = launcher
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
        self._drawn = self._run.privacy.selection == "random_stopping"
        if self._run.privacy.enabled or self._drawn:
            self._require_an_account()

    def work(self) -> None:
        """Run trials until the study has all of them, then write and say what was found.

        Raises:
            RequestError: the storage or the study is not right, or the next trial would pass ``privacy.sweep_epsilon``.
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
            try:
                with TrialLeases(study, storage, self._search.stale_after) as claims:
                    self._work_on(study, claims)
            finally:
                write_results(study, self._search, self._sweep_dir, drawn=self._drawn)
                shown = storage.place if self._search.storage != MEMORY else f"{MEMORY}, which ends now"
                print("\n".join(describe(study, self._search, shown)), flush=True)
            if not best_of(study) and not study.get_trials(states=(TrialState.RUNNING,)):
                raise RunError(describe(study, self._search, shown)[-2])

    def _work_on(self, study: optuna.Study, claims: TrialLeases) -> None:
        while True:
            taken = claims.take(self._search.n_jobs, self._space, total=self._search.n_trials, prepare=self._prepare)
            if taken:
                self._run_all(study, claims, taken)
                write_results(study, self._search, self._sweep_dir, drawn=self._drawn)
            elif claims.undecided():
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            else:
                return

    def _prepare(self, trial: optuna.Trial) -> None:
        """Give the trial its folder: the one that it has, where its run has ended or can go on in this sweep."""
        if self._hook is not None:
            self._hook(self._run, trial)
        if self._drawn:
            trials = trial.study.get_trials(deepcopy=False)
            refuse_chosen(next(one for one in trials if one.number == trial.number))
        folder = trial.user_attrs.get(FOLDER)
        if folder is None or (Path(folder).parent != self._sweep_dir and self._finished_result(trial) is None):
            trial.set_user_attr(FOLDER, str(self._sweep_dir / str(trial.number)))

    def _run_all(self, study: optuna.Study, claims: TrialLeases, taken: list[optuna.Trial]) -> None:
        outcomes = {trial.number: outcome for trial in taken if (outcome := self._finished_result(trial)) is not None}
        due, overrides = [], []
        for trial in taken:
            if trial.number not in outcomes:
                try:
                    overrides.append(self._overrides(trial))
                    due.append(trial)
                except RequestError as refusal:  # values that do not go together
                    outcomes[trial.number] = TrialResult(state=TrialState.FAIL, cause=str(refusal))
        error = None
        if not self._drawn:
            folders = [Path(trial.user_attrs.get(FOLDER, "")) for trial in study.get_trials(deepcopy=False)]
            write_cells(self._sweep_dir, {path.name: None for path in folders if path.parent == self._sweep_dir})
        if due:
            try:
                self._launcher.launch(overrides, initial_job_idx=due[0].number)
            except (HydraException, OmegaConfBaseException) as failure:
                error = " ".join(str(failure).split())  # values that do not go together, found on composing them
        for trial in due:
            folder = Path(trial.user_attrs[FOLDER])
            outcomes[trial.number] = read_trial_result(folder, self._search.objectives, self._limits, error)
        for number, outcome in outcomes.items():
            if outcome.state.is_finished():
                tell(study, claims.done(number), outcome)
            elif outcome.state == TrialState.WAITING:
                # it has not begun, and may when there is more to spend
                shutil.rmtree(Path(claims.mine[number].user_attrs[FOLDER]))
        self._stop_where_due(list(outcomes.values()))

    def _require_an_account(self) -> None:
        """Refuse, before the first trial, a private search for which no account of its trials holds."""
        if self._drawn:
            require_random_trials(self._sampler, self._pruner, self._search, self._run.trainer.monitor)
            refuse_varied(self._space.keys())
            return
        varied = sorted(key for key in self._space if may_change_mechanism(key))
        if varied and self._run.privacy.sweep_epsilon is None and learns_from_trials(self._sampler, self._search):
            raise RequestError(
                "privacy.sweep_epsilon",
                f"null, while {type(self._sampler).__name__} picks {varied[0]} by the trials so far",
                "a budget for the whole search, or another sampler (random, grid, qmc): what private steps cost may be"
                " picked by results only within a budget that was set before them",
            )

    def _ask(self, settings: StudySettings) -> Draw:
        return draw_trials(
            self._run.privacy, question=question_hash(settings.keys), cells=None, expected=self._search.n_trials
        )

    def _finished_result(self, trial: optuna.Trial) -> TrialResult | None:
        return finished_result(Path(trial.user_attrs[FOLDER]), self._search.objectives, self._limits)

    def _stop_where_due(self, outcomes: list[TrialResult]) -> None:
        refused = next((outcome for outcome in outcomes if outcome.state == TrialState.WAITING), None)
        if refused is not None:
            raise RequestError("privacy.sweep_epsilon", "a next trial", f"none: the search has ended ({refused.cause})")
        if any(outcome.state == TrialState.RUNNING for outcome in outcomes):
            raise SystemExit(ExitCode.INTERRUPTED)
        failed = [outcome for outcome in outcomes if outcome.state == TrialState.FAIL]
        if len(failed) / len(outcomes) > self._search.max_failure_rate:
            raise RunError(
                f"{len(failed)} of {len(outcomes)} trials failed ({KEY}.max_failure_rate): {failed[0].cause}"
            )

    def _overrides(self, trial: optuna.Trial) -> list[str]:
        """Those of the trial's run: its values, and for Hydra where it goes.

        Raises:
            RequestError: they do not go together.
        """
        ours = [f"hydra.sweep.dir={_quoted(self._sweep_dir)}", f"hydra.sweep.subdir={trial.number}"]
        drawn = [f"{key}={'null' if value is None else value}" for key, value in trial.params.items()]
        lines = [*self._fixed, *drawn]
        return [*lines, *added_to(self._composer.parse(lines), self._composer.compose(lines)), *ours]


def _find_hook(path: str | None) -> Callable[[DictConfig, optuna.Trial], Any] | None:
    return None if path is None else locate(f"{KEY}.custom_search_space", path)


def _quoted(path: Path) -> str:
    return QuotedString(str(path), Quote.double).with_quotes()
