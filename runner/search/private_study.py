"""The state that the workers of one private study share: its identity in the ledger, and its draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from runner.errors import RequestError, RunError
from runner.privacy.accounting.stopping_draws import KEY, Draw
from runner.search.study_storage import Storage
from runner.sweeping.privacy_file import identify_sweep
from runner.sweeping.selection_file import (
    SELECTION_FILE,
    adopt,
    is_drawn,
    read_draw,
    refuse_drawn_elsewhere,
    write_draw,
)

_IDENTITY = "sweep"
"""User attribute of a study: its identity in the ledger."""
_DRAW = "runner:selection"
"""System attribute of a study: what was drawn for it."""


def share_identity(study: optuna.Study, storage: Storage, sweep_dir: Path) -> None:
    """Let all workers of the study be one sweep in the ledger, whichever folders they work in.

    Raises:
        RequestError: the folder holds another sweep.
    """
    with storage.turn(storage.study_id(study)):
        known = study.user_attrs.get(_IDENTITY)
        identity = identify_sweep(sweep_dir, known)
        if known is None:
            study.set_user_attr(_IDENTITY, identity)


def share_draw(study: optuna.Study, storage: Storage, sweep_dir: Path, asked: Draw) -> Draw:
    """What was drawn for the study, whoever drew it: ``asked`` where nothing was.

    Raises:
        RequestError: the study or the folder holds another search or began otherwise, or somebody put a trial in.
        RunError: what was drawn is damaged.
    """
    with storage.turn(storage.study_id(study)):
        draw = _drawn_for(study, storage)
        mine = read_draw(sweep_dir) if is_drawn(sweep_dir) else None
        if draw is not None and mine is not None and draw != mine:
            raise RequestError(
                "hydra.sweep.dir", sweep_dir, f"another folder: its {SELECTION_FILE} is of another study"
            )
        trials = study.get_trials(deepcopy=False)
        if draw is None and mine is None and (trials or (sweep_dir / "privacy.json").exists()):
            raise RequestError(KEY, "random_stopping after trials without it", "a study and a folder of its own")
        for trial in trials:
            refuse_chosen(trial)
        draw = draw or mine
        if draw is not None:
            draw.require_same(asked, f"the study {study.study_name}")
        draw = draw or adopt(asked, study.user_attrs.get(_IDENTITY, asked.sweep))
        refuse_drawn_elsewhere(draw, asked, sweep_dir)
        storage.backend.set_study_system_attr(storage.study_id(study), _DRAW, draw.plain())
        write_draw(sweep_dir, draw)
    return draw


def refuse_chosen(trial: FrozenTrial) -> None:
    """Refuse a trial whose settings somebody chose.

    Raises:
        RequestError: it is one.
    """
    if trial.state == TrialState.WAITING or "fixed_params" in trial.system_attrs:
        raise RequestError(
            KEY, f"trial {trial.number}, which was put into the study", "trials that the runner draws, and no others"
        )


def _drawn_for(study: optuna.Study, storage: Storage) -> Draw | None:
    found: Any = storage.backend.get_study_system_attrs(storage.study_id(study)).get(_DRAW)
    try:
        return None if found is None else Draw.from_plain(found)
    except (ValueError, TypeError, KeyError) as error:
        name = study.study_name
        raise RunError(f"the study {name}: which trials were drawn is unknown ({error})") from error
