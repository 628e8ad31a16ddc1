"""Leases of trials: each has one owner, who renews it; a trial of a dead worker is taken over."""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from runner.errors import RequestError
from runner.records.run_lock import lock_run
from runner.search.sampling import Space, suggest
from runner.search.study_storage import Storage

log = logging.getLogger(__name__)

OWNER = "runner:owner"
"""System attribute of a trial: who runs it; null when it was given back."""
FOLDER = "folder"
"""User attribute of a trial: where its run is."""

_CLOCK_STEP = 2.0
"""Seconds by which the start of a process may seem to move when the system's clock is set."""
_BEATS = 4
"""Signs of life within the time after which an owner counts as gone."""


@dataclass(eq=False)
class TrialLeases:
    """The trials of one worker.  A context: inside it, their owner shows signs of life; at its end they are given back.

    A worker on the same machine is gone when its process is; one elsewhere, when its signs of life have not changed for
    ``stale_after`` seconds of this worker's own clock, so that clocks need not agree.
    """

    study: optuna.Study
    storage: Storage
    stale_after: float
    mine: dict[int, optuna.Trial] = field(default_factory=dict)
    """Number -> trial."""

    def __post_init__(self) -> None:
        process = psutil.Process()
        self._me = {
            "machine": _machine(),
            "host": platform.node(),
            "pid": process.pid,
            "started": process.create_time(),
        }
        self._beat = 0
        self._seen: dict[int, tuple[Any, float, bool]] = {}
        self._ids: dict[int, int] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._show_life, name="signs of life", daemon=True)

    def __enter__(self) -> TrialLeases:
        self._heart.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._ended.set()
        self._heart.join()
        for number in list(self.mine):
            self.give_back(number)

    def take(
        self, most: int, space: Space, *, total: int, prepare: Callable[[optuna.Trial], None]
    ) -> list[optuna.Trial]:
        """At most ``most`` trials to run now: what the dead have left, else new ones up to ``total`` in the study.

        ``prepare`` sees each trial once it is this worker's, before any other worker may look.
        """
        taken: list[optuna.Trial] = []
        with self.storage.turn(self.storage.study_id(self.study)):
            trials = self.study.get_trials(deepcopy=False)
            abandoned = [trial for trial in trials if trial.state == TrialState.RUNNING and self._is_free(trial)]
            waiting = sum(trial.state == TrialState.WAITING for trial in trials)
            new = max(waiting, total - len(trials))
            for old in abandoned[:most]:
                taken.append(self._own(optuna.Trial(self.study, self._id(old.number)), space, prepare))
            for _ in range(min(most - len(taken), new)):
                taken.append(self._own(self.study.ask(), space, prepare))
        return taken

    def undecided(self) -> list[int]:
        """Numbers of trials that may yet have to be taken over: whether their owner lives is not known yet."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in running if trial.number not in self.mine and self._is_open(trial)]

    def done(self, number: int) -> optuna.Trial:
        """The trial, whose owner need not show signs of life any more; to be told at once."""
        with self._lock:
            return self.mine.pop(number)

    def give_back(self, number: int) -> None:
        """Leave the trial to whoever comes next; it keeps its number, values and folder."""
        self.done(number)
        self.storage.backend.set_trial_system_attr(self._id(number), OWNER, None)

    def _own(self, trial: optuna.Trial, space: Space, prepare: Callable[[optuna.Trial], None]) -> optuna.Trial:
        self.storage.backend.set_trial_system_attr(self._id(trial.number), OWNER, self._sign())
        for key, distribution in space.items():
            suggest(trial, key, distribution)
        prepare(trial)
        with self._lock:
            self.mine[trial.number] = trial
        return trial

    def _id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self.storage.trial_id(self.study, number)
        return self._ids[number]

    def _is_free(self, trial: FrozenTrial) -> bool:
        """Whether nobody runs ``trial``; to be asked in this worker's turn."""
        if trial.number in self.mine:
            return False
        # without an owner it was given back, or its worker was killed before it had signed
        owner = trial.system_attrs.get(OWNER)
        return owner is None or (self._is_gone(trial, owner) is True and not _is_occupied(trial))

    def _is_open(self, trial: FrozenTrial) -> bool:
        owner = trial.system_attrs.get(OWNER)
        # a run outlives its worker for a moment, or to its end: then its result is there to be told
        return owner is None or self._is_gone(trial, owner) is not False

    def _is_gone(self, trial: FrozenTrial, owner: dict[str, Any]) -> bool | None:
        """Whether the owner of ``trial`` has ended; None as long as that cannot be said."""
        if owner["machine"] == self._me["machine"]:
            return not _lives(owner["pid"], owner["started"])
        now = time.monotonic()
        beat, since, moved = self._seen.get(trial.number, (owner, now, False))
        if beat != owner:
            beat, since, moved = owner, now, True
        self._seen[trial.number] = beat, since, moved
        if now - since >= self.stale_after:
            return True
        return False if moved else None

    def _sign(self) -> dict[str, Any]:
        return {**self._me, "beat": self._beat}

    def _show_life(self) -> None:
        while not self._ended.wait(self.stale_after / _BEATS):
            self._beat += 1
            with self._lock:
                for number in self.mine:
                    try:
                        self.storage.backend.set_trial_system_attr(self._id(number), OWNER, self._sign())
                    except Exception as error:
                        # the next one may pass; should none, whoever has taken the trial over finds its folder locked
                        log.warning("trial %d: no sign of life could be given: %s", number, error)


def _lives(pid: int, started: float) -> bool:
    """Whether that very process still runs; another one may have its number by now."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < _CLOCK_STEP and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    """A name for the set of processes that this one can see: containers share a host name, but not their processes."""
    boot, names = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and names.exists():
        return f"{boot.read_text().strip()} {names.readlink()}"
    return platform.node()


def _is_occupied(trial: FrozenTrial) -> bool:
    """Whether the run of ``trial`` goes on without its worker."""
    folder = Path(trial.user_attrs.get(FOLDER, os.devnull))
    if not folder.is_dir():
        return False
    try:
        with lock_run(folder):
            return False
    except RequestError:
        return True
