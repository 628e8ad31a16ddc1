"""Trials of one study: claimed, launched, and the study told what came of them, until there are enough."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from runner.config.compose import Composer
from runner.config.request.presets import added_to
from runner.config.request.search_config import KEY, Limit, SearchConfig
from runner.errors import ExitCode, RequestError, RunError, read_refusal
from runner.search.sampling import Space
from runner.search.study_storage import Storage
from runner.search.trial_leases import FOLDER, TrialLeases
from runner.search.trial_result import CAUSE, TrialResult, finished_result, read_trial_result, tell

_SECONDS_BETWEEN_LOOKS = 0.5
"""While other workers' trials may have to be taken over."""
_ALIKE = 3
"""Trials refused for one reason, while none gives a value, from which on the others may be taken to be refused too."""


@dataclass(kw_only=True)
class TrialRunner:
    """The part of one worker in a study."""

    study: optuna.Study
    storage: Storage
    search: SearchConfig
    limits: Sequence[Limit]
    """``hydra.sweeper.constraints``, read."""
    space: Space
    composer: Composer
    launcher: Launcher
    sweep_dir: Path
    lines: Callable[[optuna.Trial], list[str]]
    """The overrides of a trial's run."""
    note_cells: Callable[[], None]
    """Called before cells are launched."""
    write: Callable[[], None]
    """Called when the study has been told of results."""
    name_folder: Callable[[int], str] = str
    """The folder of a trial by its number, from ``sweep_dir``."""
    first_job: int = 0
    """Hydra's number for the job of trial 0."""
    prepare: Callable[[optuna.Trial], None] = lambda trial: None
    """Sees each trial once it is this worker's."""

    def run(self, total: int) -> None:
        """Run trials until the study has ``total`` and none is left that this worker may take over.

        Raises:
            RequestError: the next trial would pass ``privacy.sweep_epsilon``, or all are refused for one reason.
            RunError: more failed at once than ``max_failure_rate`` allows.
            SystemExit: a trial was interrupted, which has saved.
        """
        with TrialLeases(self.study, self.storage, self.search.stale_after) as claims:
            while True:
                taken = claims.take(self.search.n_jobs, self.space, total=total, prepare=self._find_folder)
                if taken:
                    self._run_all(claims, taken)
                    self.write()
                elif claims.undecided():
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                else:
                    return

    def folders(self) -> list[str]:
        """The folders of its trials that lie in ``sweep_dir``, from there."""
        found = {trial.user_attrs.get(FOLDER): trial.number for trial in self.study.get_trials(deepcopy=False)}
        names = map(self.name_folder, found.values())
        return [name for name, folder in zip(names, found, strict=True) if folder == str(self.sweep_dir / name)]

    def _find_folder(self, trial: optuna.Trial) -> None:
        """Give the trial its folder: the one that it has, where its run has ended or can go on in this sweep."""
        self.prepare(trial)
        own = self.sweep_dir / self.name_folder(trial.number)
        folder = trial.user_attrs.get(FOLDER)
        if folder is None or (Path(folder) != own and self._finished_result(trial) is None):
            trial.set_user_attr(FOLDER, str(own))

    def _run_all(self, claims: TrialLeases, taken: list[optuna.Trial]) -> None:
        outcomes = {trial.number: outcome for trial in taken if (outcome := self._finished_result(trial)) is not None}
        due, overrides = [], []
        for trial in taken:
            if trial.number not in outcomes:
                try:
                    overrides.append(self._overrides(trial))
                    due.append(trial)
                except RequestError as refusal:  # values that do not go together
                    outcomes[trial.number] = TrialResult(state=TrialState.FAIL, cause=str(refusal), refused=True)
        error = None
        self.note_cells()
        if due:
            try:
                self.launcher.launch(overrides, initial_job_idx=self.first_job + due[0].number)
            except (HydraException, OmegaConfBaseException) as failure:
                error = " ".join(str(failure).split())  # values that do not go together, found on composing them
        for trial in due:
            folder = Path(trial.user_attrs[FOLDER])
            outcomes[trial.number] = read_trial_result(folder, self.search.objectives, self.limits, error)
        for number, outcome in outcomes.items():
            if outcome.state.is_finished():
                tell(self.study, claims.done(number), outcome)
            elif outcome.state == TrialState.WAITING:
                # it has not begun, and may when there is more to spend
                shutil.rmtree(Path(claims.mine[number].user_attrs[FOLDER]))
        self._stop_where_due(outcomes)

    def _finished_result(self, trial: optuna.Trial) -> TrialResult | None:
        return finished_result(Path(trial.user_attrs[FOLDER]), self.search.objectives, self.limits)

    def _stop_where_due(self, outcomes: dict[int, TrialResult]) -> None:
        for number, outcome in outcomes.items():
            if outcome.state == TrialState.WAITING:
                place = f"run {self.name_folder(number)}, which was not begun: the search has ended"
                raise read_refusal(str(outcome.cause), place)
        if any(outcome.state == TrialState.RUNNING for outcome in outcomes.values()):
            raise SystemExit(ExitCode.INTERRUPTED)
        failed = [outcome for outcome in outcomes.values() if outcome.state == TrialState.FAIL]
        if any(outcome.refused for outcome in failed):
            self._refuse_what_fails_always()
        if len(failed) / len(outcomes) > self.search.max_failure_rate:
            raise RunError(
                f"{len(failed)} of {len(outcomes)} trials failed ({KEY}.max_failure_rate): {failed[0].cause}"
            )

    def _refuse_what_fails_always(self) -> None:
        """End a search whose trials so far were refused for one reason, whatever was searched."""
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        causes = {trial.user_attrs.get(CAUSE) for trial in ended}
        if len(ended) < _ALIKE or len(causes) > 1 or any(trial.state != TrialState.FAIL for trial in ended):
            return
        if all(_is_covered(distribution, {trial.params.get(key) for trial in ended})
               for key, distribution in self.space.items()):  # fmt: skip
            raise read_refusal(str(causes.pop()), f"each of the {len(ended)} trials so far, whatever was searched")

    def _overrides(self, trial: optuna.Trial) -> list[str]:
        """Those of the trial's run: its values, and for Hydra where it goes.

        Raises:
            RequestError: they do not go together.
        """
        place = QuotedString(str(self.sweep_dir), Quote.double).with_quotes()
        ours = [f"hydra.sweep.dir={place}", f"hydra.sweep.subdir={self.name_folder(trial.number)}"]
        lines = self.lines(trial)
        return [*lines, *added_to(self.composer.parse(lines), self.composer.compose(lines)), *ours]


def _is_covered(distribution: BaseDistribution, tried: set[Any]) -> bool:
    """Whether ``tried`` are all choices, or several values of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return tried >= set(distribution.choices)
    return len(tried) > 1 or distribution.single()
