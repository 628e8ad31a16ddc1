"""Sweeps with ``privacy.selection=random_stopping``: how many trials there are, and which, is drawn before the first.

What was drawn stands in ``selection.json`` of the sweep's folder, so that a sweep that is started again goes on with
it: drawing anew after a look at the results would void the bound.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.errors import RequestError, RunError
from runner.config.request import Request
from runner.config.schema import PrivacyConfig
from runner.disk.json_files import read_json
from runner.privacy.random_stopping import Selection, TrialCount
from runner.records.json_values import write_json

SELECTION_FILE = "selection.json"
_KEY = "privacy.selection"


def draw_beforehand(request: Request) -> list[str]:
    """Draw the trials of a sweep that asks for it; the overrides that make Hydra run them, none for other sweeps.

    Raises:
        RequestError: a condition of the bound does not hold, or the folder holds a sweep that began otherwise.
    """
    asked = [config.privacy for config in request.configs if config.privacy.selection == "random_stopping"]
    if request.sweep_dir is None:
        return []
    folder = request.sweep_dir
    begun = folder / SELECTION_FILE
    if not asked:
        if begun.exists():
            raise RequestError(_KEY, "composition", f"random_stopping, as {folder} began, or another hydra.sweep.dir")
        return []
    if not begun.exists() and (folder / "privacy.json").exists():
        raise RequestError(_KEY, "random_stopping", f"composition, as {folder} began, or another hydra.sweep.dir")
    drawn = _draw(request, asked)
    if begun.exists():
        drawn = _as_begun(begun, drawn)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(begun, drawn)
        # how many trials there are is part of the secret
        begun.chmod(0o600)
    return [f"hydra.sweeper.n_trials={drawn['trials']}"] if drawn["cells"] is None else []


def is_drawn(sweep_dir: Path) -> bool:
    """Whether the trials of the sweep in ``sweep_dir`` were drawn beforehand."""
    return (sweep_dir / SELECTION_FILE).exists()


def read_selection(sweep_dir: Path) -> Selection:
    """What was drawn for the sweep in ``sweep_dir``.

    Raises:
        RunError: nothing was, or the file that says so is damaged.
    """
    try:
        found = read_json(sweep_dir / SELECTION_FILE)
        count = TrialCount(mean=float(found["mean"]), shape=float(found["shape"]))
        return Selection(count=count, trials=int(found["trials"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{sweep_dir.name}/{SELECTION_FILE}: no trials were drawn for this sweep ({error})") from error


def chosen_cells(folder: Path, cells: Sequence[Any]) -> list[Any]:
    """The trials that were drawn for the sweep in ``folder`` from the ``cells`` of its grid, in order."""
    try:
        return [cells[number] for number in read_json(folder / SELECTION_FILE)["picks"]]
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise RunError(f"{folder.name}/{SELECTION_FILE}: damaged, so which trials were drawn is unknown") from error


def best_trial(sweep_dir: Path) -> str | None:
    """Name of the cell with the best monitored metric, the first of equal ones; None where none was measured."""
    from runner.records.run_file import RUN_FILE, read_run

    best: tuple[float, str] | None = None
    for path in sorted(sweep_dir.glob(f"*/{RUN_FILE}"), key=lambda path: (len(path.parent.name), path.parent.name)):
        run = read_run(path.parent)
        monitor = run.plan.get("semantic", {}).get("monitor", "val_accuracy")
        value = getattr(run.metrics, monitor)
        if value is None:
            continue
        score = -value if monitor == "val_loss" else value
        if best is None or score > best[0]:
            best = score, path.parent.name
    return None if best is None else best[1]


def _draw(request: Request, asked: Sequence[PrivacyConfig]) -> dict[str, Any]:
    assert request.hydra is not None
    settings = {(privacy.selection_trials, privacy.selection_shape) for privacy in asked}
    if len(asked) < len(request.configs) or len(settings) > 1:
        raise RequestError(_KEY, "random_stopping in some cells, or with several settings", "the same in every cell")
    if "hydra.job.num" not in str(OmegaConf.to_container(request.hydra.sweep, resolve=False)):
        raise RequestError(
            "hydra.sweep.subdir", request.hydra.sweep.subdir, "a name with ${hydra.job.num}: a cell may be drawn twice"
        )
    cells = request.cells
    if cells is None:
        _require_random_search(request)
    expected = request.hydra.sweeper.n_trials if cells is None else cells
    ((mean, shape),) = settings
    count = TrialCount(mean=float(expected if mean is None else mean), shape=shape)
    source = random.SystemRandom()
    trials = count.draw(source)
    picks = None if cells is None else [source.randrange(cells) for _ in range(trials)]
    return {"mean": count.mean, "shape": count.shape, "cells": cells, "trials": trials, "picks": picks}


def _require_random_search(request: Request) -> None:
    """A search whose trials do not depend on each other: a random sampler, and no pruner."""
    assert request.hydra is not None
    choices = request.hydra.runtime.choices
    sampler, pruner = (choices.get(f"hydra/sweeper/{part}") for part in ("sampler", "pruner"))
    if sampler != "random":
        raise RequestError(
            "hydra/sweeper/sampler", sampler, "random with privacy.selection=random_stopping: others learn from trials"
        )
    if pruner not in (None, "none"):
        raise RequestError(
            "hydra/sweeper/pruner", pruner, "none with privacy.selection=random_stopping: each trial is a whole run"
        )


def _as_begun(begun: Path, drawn: dict[str, Any]) -> dict[str, Any]:
    try:
        earlier: dict[str, Any] = read_json(begun)
        same = all(earlier[key] == drawn[key] for key in ("mean", "shape", "cells"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{begun}: damaged, so which trials were drawn is unknown ({error})") from error
    if not same:
        raise RequestError(
            _KEY,
            f"{drawn['cells']} cells, mean {drawn['mean']:g}, shape {drawn['shape']:g}",
            f"{earlier['cells']} cells, mean {earlier['mean']:g}, shape {earlier['shape']:g}, as {begun.parent} began",
        )
    return earlier
