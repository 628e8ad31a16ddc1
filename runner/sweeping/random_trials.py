"""Grids with ``privacy.selection=random_stopping``: the number of trials and their cells, drawn beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.request.request import GRID, Request
from runner.config.request.search_config import SWEEPER
from runner.config.schema import PrivacyConfig
from runner.errors import RequestError
from runner.privacy.accounting.stopping_draws import KEY, Draw
from runner.records.run_file import FINISHED, RUN_FILE, read_run
from runner.records.sweep_cells import find_cells
from runner.sweeping.earlier_cells import leaves
from runner.sweeping.selection_file import (
    SELECTION_FILE,
    draw_trials,
    is_drawn,
    question_hash,
    read_draw,
    refuse_drawn_elsewhere,
    refuse_varied,
    write_draw,
)


def draw_beforehand(request: Request) -> None:
    """Draw the trials of a grid that asks for it, or go on with those that were drawn for its folder.

    The trials of a search are drawn with its study (``runner/search/private_study.py``).

    Raises:
        RequestError: a condition of the bound does not hold, or the folder holds a sweep that began otherwise.
    """
    asked = [config.privacy for config in request.configs if config.privacy.selection == "random_stopping"]
    folder = request.sweep_dir
    if folder is None:
        return
    if not asked:
        if is_drawn(folder):
            raise RequestError(KEY, "composition", f"random_stopping, as {folder} began, or another hydra.sweep.dir")
        return
    assert request.hydra is not None
    if len(asked) < len(request.configs) or len({(one.selection_trials, one.selection_shape) for one in asked}) > 1:
        raise RequestError(KEY, "random_stopping in some cells, or with several settings", "the same in every cell")
    if request.hydra.sweeper._target_ not in (GRID, SWEEPER):
        raise RequestError(
            "hydra/sweeper", request.hydra.sweeper._target_, f"grid or optuna with {KEY}=random_stopping"
        )
    refuse_varied(request.varied)
    if request.cells is not None:
        _draw_grid(request, folder, asked[0])


def chosen_cells(folder: Path, cells: Sequence[Any]) -> list[Any]:
    """The trials that were drawn for the sweep in ``folder`` from the ``cells`` of its grid, in order.

    Raises:
        RunError: which they were is unknown.
    """
    picks = read_draw(folder).picks
    assert picks is not None
    return [cells[number] for number in picks]


def best_trial(sweep_dir: Path) -> str | None:
    """Name of the cell with the best monitored metric, the first of equal ones.

    None where none was measured, and where not all trials are in this folder: then their study knows.
    """
    best: tuple[float, str] | None = None
    ended = 0
    for name in sorted(find_cells(sweep_dir).cells, key=lambda name: (len(name), name)):
        if not (sweep_dir / name / RUN_FILE).exists():
            continue
        run = read_run(sweep_dir / name)
        ended += run.status in FINISHED
        monitor = run.plan.get("semantic", {}).get("monitor", "val_accuracy")
        value = getattr(run.metrics, monitor)
        if value is None:
            continue
        score = -value if monitor == "val_loss" else value
        if best is None or score > best[0]:
            best = score, name
    return None if best is None or ended != read_draw(sweep_dir).trials else best[1]


def _draw_grid(request: Request, folder: Path, privacy: PrivacyConfig) -> None:
    assert request.hydra is not None
    assert request.cells is not None
    if "hydra.job.num" not in str(OmegaConf.to_container(request.hydra.sweep, resolve=False)):
        raise RequestError(
            "hydra.sweep.subdir", request.hydra.sweep.subdir, "a name with ${hydra.job.num}: a cell may be drawn twice"
        )
    if not is_drawn(folder) and (folder / "privacy.json").exists():
        raise RequestError(
            KEY, f"random_stopping without {folder / SELECTION_FILE}", "composition, or the file as it was"
        )
    asked = _asked(request, privacy)
    draw = asked
    if is_drawn(folder):
        draw = read_draw(folder)
        draw.require_same(asked, folder)
    refuse_drawn_elsewhere(draw, asked, folder)
    if draw is asked:
        write_draw(folder, draw)


def _asked(request: Request, privacy: PrivacyConfig) -> Draw:
    assert request.cells is not None
    values: dict[str, set[str]] = {}
    for config in request.configs:
        for key, value in leaves(config):
            values.setdefault(key, set()).add(repr(value))
    question = question_hash({key: sorted(found) for key, found in values.items()})
    return draw_trials(privacy, question=question, cells=request.cells, expected=request.cells)
